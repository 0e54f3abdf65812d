// StaticBackend's own clients, as they are published, against a server: two accounts with three users, channels, and the
// changes of documents. Usage: node main.mjs BASE_URL. Node 20 has neither EventSource nor WebSocket of its own; a browser
// has both.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
globalThis.EventSource = require("eventsource");
globalThis.WebSocket = require("ws");

const base = process.argv[2];
const key = "dev_memory_pk";
const patience = 10_000;
const versions = {
    "1.7.0": (await import("staticbackend-1.7.0")).Backend,
    "1.0.2": require("staticbackend-1.0.2").Backend,
};

let passed = 0;
function holds(what) {
    passed += 1;
    console.log(`ok: ${what}`);
}

// What a client has been sent, and the wait for something of it.
class Inbox {
    messages = [];
    waiting = [];

    take = (message) => {
        this.messages.push(message);
        this.waiting = this.waiting.filter((look) => !look());
    };

    next(is, what) {
        return new Promise((resolve, reject) => {
            const late = setTimeout(() => reject(new Error(`not in time: ${what}; ${JSON.stringify(this.messages)}`)), patience);
            const look = () => {
                const index = this.messages.findIndex(is);
                if (index < 0) return false;
                clearTimeout(late);
                resolve(this.messages.splice(index, 1)[0]);
                return true;
            };
            if (!look()) this.waiting.push(look);
        });
    }

    of(type, data) {
        return this.next((it) => it.type === type && (data === undefined || it.data === data), `${type} ${data ?? ""}`);
    }
}

function connected(client, token, connect = "connect") {
    return new Promise((resolve, reject) => {
        const inbox = new Inbox();
        setTimeout(() => reject(new Error(`${connect}: no token; ${JSON.stringify(inbox.messages)}`)), patience);
        client[connect](token, () => resolve(inbox), inbox.take);
    });
}

async function content(result) {
    const { ok, content } = await result;
    assert.equal(ok, true, JSON.stringify(content));
    return content;
}

async function walk(version, Backend) {
    const mail = (name) => `${name}-${version}@example.org`;
    const users = {};
    for (const [name, account] of [["a", "A"], ["b", "A"], ["c", "B"]]) {
        const client = new Backend(key, base);
        if (name === "b") {
            // Another user of the account of the first.
            const added = await fetch(`${base}/account/users`, {
                method: "POST",
                headers: { "SB-PUBLIC-KEY": key, "Content-Type": "application/json", Authorization: `Bearer ${users.a.token}` },
                body: JSON.stringify({ email: mail(name), password: "a long password" }),
            });
            assert.equal(added.status, 200, await added.text());
        } else {
            await content(client.register(mail(name), "a long password"));
        }
        const token = await content(client.login(mail(name), "a long password"));
        users[name] = { client, token, account };
    }
    const twice = await users.a.client.register(mail("a"), "a long password");
    assert.deepEqual([twice.ok, twice.content], [false, "invalid email"]);
    const wrong = await users.a.client.login(mail("a"), "another password");
    assert.deepEqual([wrong.ok, wrong.content], [false, "invalid email/password"]);
    holds(`${version}: register, login, and both refusals`);

    for (const user of Object.values(users)) user.inbox = await connected(user.client, user.token);
    const { a, b, c } = users;
    const { types } = a.client;
    a.client.send(types.echo, "hello");
    assert.equal((await a.inbox.of("echo")).data, "echo: hello");
    holds(`${version}: connect, auth, echo`);

    const channel = `25ti97wIt56swf5210aPo854Uoma-${version}`;
    for (const user of [a, c]) {
        user.client.send(types.join, channel);
        await user.inbox.of("ok", channel);
        await user.inbox.of("joined", channel);
    }
    c.client.send(types.chanIn, JSON.stringify({ name: "dominic", message: "hello from Québec" }), channel);
    for (const user of [a, c]) {
        const said = await user.inbox.next((it) => it.type === "chan_out" && it.channel === channel, "chan_out");
        assert.equal(JSON.parse(said.data).message, "hello from Québec");
    }
    await c.inbox.of("ok", "");
    holds(`${version}: join, chan_in, chan_out`);

    // Three at once, in whatever order they arrive.
    const late = new Backend(key, base);
    const inbox = await connected(late, b.token);
    late.send(types.join, channel);
    late.send(types.echo, "between");
    late.send(types.chanIn, "right away", channel);
    await inbox.of("echo");
    await inbox.of("ok", channel);
    await inbox.of("ok", "");
    await a.inbox.of("chan_out", "right away");
    holds(`${version}: commands that are sent together`);

    const tasks = `tasks${version.replaceAll(".", "")}_760_`;
    for (const user of [a, b, c]) {
        user.client.send(types.join, `db-${tasks}`);
        await user.inbox.of("joined", `db-${tasks}`);
    }
    a.client.send(types.chanIn, "nobody may", `db-${tasks}`);
    await a.inbox.of("error", "you cannot write to database channel");
    const made = await content(a.client.create(a.token, tasks, { name: "new doc" }));
    for (const user of [a, b]) {
        const created = JSON.parse((await user.inbox.of("db_created")).data);
        assert.deepEqual([created.id, created.name], [made.id, "new doc"]);
    }
    const changed = await content(b.client.update(b.token, tasks, made.id, { name: "old doc" }));
    assert.equal(changed.name, "old doc");
    for (const user of [a, b]) assert.equal(JSON.parse((await user.inbox.of("db_updated")).data).name, "old doc");
    await content(a.client.delete(a.token, tasks, made.id));
    for (const user of [a, b]) assert.equal((await user.inbox.of("db_deleted")).data, made.id);
    // The other account hears of its own alone.
    const own = await content(c.client.create(c.token, tasks, { name: "mine" }));
    const heard = await c.inbox.next((it) => it.type.startsWith("db_"), "an event of its own");
    assert.deepEqual([heard.type, JSON.parse(heard.data).id], ["db_created", own.id]);
    a.client.send(types.echo, "nothing more");
    await a.inbox.of("echo", "echo: nothing more");
    assert.ok(!a.inbox.messages.some((it) => it.type.startsWith("db_")), JSON.stringify(a.inbox.messages));
    holds(`${version}: database events of two accounts with three users`);

    // Beside an event stream, by which it sends its token.
    const socket = await connected(a.client, a.token, "connectWS");
    a.client.sendWS(types.echo, "by a socket");
    await socket.of("echo", "echo: by a socket");
    a.client.sendWS(types.join, channel);
    await socket.of("joined", channel);
    holds(`${version}: connectWS`);

    const bad = new Backend(key, base);
    const refused = new Inbox();
    bad.connect("no token", () => assert.fail("that is no token"), refused.take);
    await refused.of("error", "invalid token");
    holds(`${version}: a token that is none`);
}

for (const [version, Backend] of Object.entries(versions)) await walk(version, Backend);
console.log(`${passed} scenes passed`);
process.exit(0);
