"""A client of Misakey's boxes, made from what is known of the protocol and from nothing of ours.

Usage: client.py ADDRESS TOKENS, where TOKENS is a file with a line NAME TOKEN for olga, ann, bob and eve. It walks through
the protocol's tables, and ends with an error at the first thing that is not as they say.
"""

import asyncio
import base64
import datetime
import json
import re
import sys
import uuid

import requests
import websockets

ADDRESS, TOKENS = sys.argv[1], dict(line.split() for line in open(sys.argv[2], encoding="utf-8"))
NAMES = {name: f"{name}@example.org" for name in TOKENS}
MEMBERS = ["id", "type", "content", "server_event_created_at", "referrer_id", "sender"]
KEY = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
WAIT = 20
checked = 0


def expect(found, expected, about=""):
    global checked
    checked += 1
    if found != expected:
        raise SystemExit(f"{about}: found {found!r}, expected {expected!r}")


def call(who, method, path, status, body=None, **query):
    headers = {"Authorization": f"Bearer {TOKENS[who]}"} if who else {}
    answer = requests.request(method, f"{ADDRESS}{path}", headers=headers, json=body, params=query, timeout=WAIT)
    expect(answer.status_code, status, f"{who} {method} {path} {body}: {answer.text}")
    if status >= 400 and method != "HEAD":
        expect(list(answer.json()), ["code", "desc", "origin", "details"], path)
    return answer


def get(who, path, status=200, **query):
    return call(who, "GET", path, status, **query).json()


def count(who, path):
    return int(call(who, "HEAD", path, 204).headers["X-Total-Count"])


def post(who, box, kind, status=201, content=None, referrer=None):
    event = {"type": kind, "content": content, "referrer_id": referrer}
    return call(who, "POST", f"/boxes/{box}/events", status, event).json()


def batch(who, box, events, status=201):
    body = {"batch_type": "accesses", "events": events}
    return call(who, "POST", f"/boxes/{box}/batch-events", status, body).json()


def add(restriction, value):
    return {"type": "access.add", "content": {"restriction_type": restriction, "value": value}}


def remove(event):
    return {"type": "access.rm", "referrer_id": event}


def text(encrypted):
    return {"encrypted": base64.b64encode(encrypted.encode()).decode(), "public_key": KEY}


def sender(who):
    identifier = {"value": NAMES[who], "kind": "email"}
    return {"display_name": NAMES[who], "avatar_url": None, "identifier": identifier}


def is_event(event, kind, who):
    expect(list(event), MEMBERS, kind)
    expect((event["type"], event["sender"]), (kind, sender(who)), str(event))
    uuid.UUID(event["id"])
    expect(bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event["server_event_created_at"])), True, str(event))
    datetime.datetime.fromisoformat(event["server_event_created_at"].replace("Z", "+00:00"))


def is_refused(answer, code, origin, details):
    expect((answer["code"], answer["origin"], answer["details"]), (code, origin, details), str(answer))


def boxes():
    made = call("olga", "POST", "/boxes", 201, {"public_key": KEY, "title": "Papers"}).json()
    expect((made["public_key"], made["title"], made["lifecycle"], made["creator"]), (KEY, "Papers", "open", sender("olga")))
    is_event(made["last_event"], "create", "olga")
    expect(made["last_event"]["content"], {"public_key": KEY, "title": "Papers"})
    for body in [{}, {"public_key": KEY}, {"public_key": KEY, "title": ""}, {"public_key": KEY, "title": "x" * 51},
                 {"public_key": "padded==", "title": "x"}]:
        expect(call("olga", "POST", "/boxes", 400, body).json()["code"], "bad_request", str(body))
    for path in ["/boxes", "/boxes/joined"]:
        expect([box["events_count"] for box in get("olga", path, offset=0, limit=10)], [0], path)
        expect(count("olga", path), 1, path)
    box = made["id"]
    expect(get("olga", f"/boxes/{box}")["id"], box)
    is_refused(get(None, f"/boxes/{box}", 401), "unauthorized", "headers", {"Authorization": "required"})
    is_refused(get("olga", "/boxes/7/events", 400), "bad_request", "path", {"id": "malformed"})
    is_refused(get("olga", f"/boxes/{uuid.uuid4()}/events", 403), "forbidden", "not_defined", {"reason": "no_access"})
    get(None, f"/boxes/{box}/public", 403)
    return box


def accesses(box):
    is_refused(post("ann", box, "member.join", 403), "forbidden", "not_defined", {"reason": "no_access"})
    added = batch("olga", box, [add("identifier", NAMES["ann"]), add("email_domain", "friends.example")])
    for event in added:
        is_event(event, "access.add", "olga")
    expect([event["id"] for event in get("olga", f"/boxes/{box}/accesses")], [event["id"] for event in added])
    batch("olga", box, [remove(added[0]["id"]), remove(str(uuid.uuid4()))], 404)
    batch("olga", box, [remove(added[1]["id"]), add("identifier", NAMES["ann"])], 409)
    expect(len(get("olga", f"/boxes/{box}/accesses")), 2, "all or nothing")
    is_refused(get("ann", f"/boxes/{box}", 403), "forbidden", "not_defined", {"reason": "not_member"})
    joined = post("ann", box, "member.join")
    is_event(joined, "member.join", "ann")
    expect(post("ann", box, "member.join", 409)["desc"], "already box member")
    get("ann", f"/boxes/{box}/accesses", 403)
    batch("ann", box, [remove(added[0]["id"])], 403)
    expect(get("ann", f"/boxes/{box}/members"), [sender("ann"), sender("olga")])
    expect(get(None, f"/boxes/{box}/public", other_share_hash="x"), {"title": "Papers"})
    return added[0]["id"], joined["id"]


def rules(box):
    own, others = post("ann", box, "msg.text", content=text("a"))["id"], post("olga", box, "msg.txt", content=text("o"))["id"]
    new = {"new_encrypted": "bmV3", "new_public_key": KEY}
    post("ann", box, "msg.text", 400)
    for kind in ["create", "member.kick", "access.add", "access.rm", "nonsense"]:
        post("ann", box, kind, 400)
    expect(post("ann", box, "msg.edit", 403, new, others)["desc"], "can only edit own messages")
    post("ann", box, "msg.delete", 403, referrer=others)
    expect(post("olga", box, "member.leave", 403)["desc"], "admin can't leave their own box")
    post("ann", box, "state.lifecycle", 403, {"state": "closed"})
    create = get("olga", f"/boxes/{box}/events")[-1]
    expect(create["type"], "create", "the newest first")
    post("olga", box, "msg.edit", 403, new, create["id"])
    is_event(post("olga", box, "msg.delete", referrer=own), "msg.delete", "olga")
    expect(post("ann", box, "msg.delete", 410, referrer=own)["code"], "gone")
    expect(post("ann", box, "msg.edit", 410, new, own)["code"], "gone")
    listed = get("ann", f"/boxes/{box}/events")
    expect([event["type"] for event in listed], ["msg.text", "msg.text", "member.join", "create"])
    expect(listed[1]["content"]["deleted"]["by_identity"], sender("olga"))
    expect(get("ann", f"/boxes/{box}/events", offset=1, limit=2), listed[1:3])
    expect(count("ann", f"/boxes/{box}/events"), 4)
    expect(get("ann", "/boxes/joined")[0]["events_count"], 1)
    call("ann", "PUT", f"/boxes/{box}/new-events-count/ack", 403, {"identity_id": NAMES["olga"]})
    call("ann", "PUT", f"/boxes/{box}/new-events-count/ack", 204, {"identity_id": NAMES["ann"]})
    expect(get("ann", "/boxes/joined")[0]["events_count"], 0)


def socket(who, box, in_address=False, since=None):
    query = [f"access_token={TOKENS[who]}"] if in_address else []
    query += [f"since={since}"] if since else []
    headers = {} if in_address else {"Authorization": f"Bearer {TOKENS[who]}"}
    address = f"{ADDRESS.replace('http', 'ws')}/boxes/{box}/events/ws?{'&'.join(query)}"
    return websockets.connect(address, additional_headers=headers, open_timeout=WAIT)


async def hears(connection):
    return json.loads(await asyncio.wait_for(connection.recv(), WAIT))


async def at_once(function, *arguments, **named):
    return await asyncio.to_thread(lambda: function(*arguments, **named))


async def listening(box, access, joined):
    for who, where, status in [("eve", box, 403), ("ann", "7", 400)]:
        try:
            async with socket(who, where):
                raise SystemExit(f"{who} is not refused")
        except websockets.exceptions.InvalidStatus as error:
            expect(error.response.status_code, status, who)
    async with socket("ann", box, in_address=True) as ann, socket("olga", box) as olga:
        await ann.send("what a client says is passed over")
        posted = await at_once(post, "ann", box, "msg.text", content=text("hello"))
        new = {"new_encrypted": "bmV3", "new_public_key": KEY}
        edited = await at_once(post, "ann", box, "msg.edit", content=new, referrer=posted["id"])
        deleted = await at_once(post, "ann", box, "msg.delete", referrer=posted["id"])
        for connection in [ann, olga]:
            for event, kind in [(posted, "msg.text"), (edited, "msg.edit"), (deleted, "msg.delete")]:
                heard = await hears(connection)
                is_event(heard, kind, "ann")
                expect(heard, event, kind)
        expect(posted["content"], {**text("hello"), "last_edited_at": None, "deleted": None})
        expect((edited["content"], edited["referrer_id"]), (new, posted["id"]))
        expect((deleted["content"], deleted["referrer_id"]), (None, posted["id"]))
        async with socket("ann", box, since=posted["id"]) as resumed:
            # What a deleted message has said meanwhile is gone.
            expect(await hears(resumed), deleted, "what was missed")
        polled = await at_once(get, "ann", f"/boxes/{box}/events", since=edited["id"])
        expect(polled, [deleted], "by polling")

        # Who is let in no longer is kicked: the event, then 1000, and nothing more.
        kicking = asyncio.create_task(at_once(batch, "olga", box, [remove(access)]))
        heard = await hears(ann)
        is_event(heard, "member.kick", "ann")
        expect((heard["content"], heard["referrer_id"]), ({"kicker": sender("olga")}, joined))
        try:
            raise SystemExit(f"there is more: {await hears(ann)}")
        except websockets.exceptions.ConnectionClosed as closed:
            expect(closed.rcvd and closed.rcvd.code, 1000, "the close code")
        removed, kicked = await kicking
        is_event(removed, "access.rm", "olga")
        expect((kicked, await hears(olga)), (heard, heard))
        is_refused(await at_once(get, "ann", f"/boxes/{box}/events", 403), "forbidden", "not_defined", {"reason": "no_access"})

        # Where there are links only, whoever knows of the box comes in; and leaves.
        links = get("olga", f"/boxes/{box}/accesses")
        await at_once(batch, "olga", box, [remove(links[0]["id"]), add("invitation_link", "hash")])
        came = await at_once(post, "bob", box, "member.join")
        async with socket("bob", box) as bob:
            leaving = asyncio.create_task(at_once(post, "bob", box, "member.leave"))
            heard = await hears(bob)
            is_event(heard, "member.leave", "bob")
            expect(heard["referrer_id"], came["id"])
            try:
                raise SystemExit(f"there is more: {await hears(bob)}")
            except websockets.exceptions.ConnectionClosed as closed:
                expect(closed.rcvd and closed.rcvd.code, 1000, "the close code")
            expect(await leaving, heard)
        await at_once(post, "bob", box, "member.join")
        for kind in ["member.join", "member.leave", "member.join"]:
            expect((await hears(olga))["type"], kind)
        closed = await at_once(post, "olga", box, "state.lifecycle", content={"state": "closed"})
        is_event(closed, "state.lifecycle", "olga")
        expect(await hears(olga), closed)
    is_refused(post("bob", box, "msg.text", 409, text("late")), "conflict", "not_defined", {"lifecycle": "conflict"})
    is_refused(get("bob", f"/boxes/{box}/events", 403), "forbidden", "not_defined", {"reason": "closed"})
    expect(get("olga", f"/boxes/{box}")["lifecycle"], "closed")


def main():
    box = boxes()
    access, joined = accesses(box)
    rules(box)
    asyncio.run(listening(box, access, joined))
    print(f"{checked} checks")


main()
