#!/usr/bin/env python3
"""Chinwag in one screen of Python, with nothing to install: prints a room, and says what comes on standard input.

    CHINWAG_TOKEN=$(chinwag token create --user ann) python3 examples/client.py lobby
"""

import json, os, sys, threading, time, urllib.error, urllib.parse, urllib.request, uuid

URL = os.environ.get("CHINWAG_URL", "http://127.0.0.1:7700").rstrip("/")
TOKEN = os.environ.get("CHINWAG_TOKEN") or sys.exit("set CHINWAG_TOKEN to what `chinwag token create --user ann` prints")
if len(sys.argv) != 2:
    sys.exit("name one room: python3 examples/client.py lobby")
ROOM = f"{URL}/v1/rooms/{urllib.parse.quote(sys.argv[1], safe='')}"


def request(method, url, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    headers |= {"Authorization": f"Bearer {TOKEN}", **({"Content-Type": "application/json"} if data else {})}
    call = urllib.request.Request(url, data, {k.replace("_", "-"): v for k, v in headers.items()}, method=method)
    return urllib.request.urlopen(call, timeout=60)  # a stream says something every 15 seconds


def problem(error):
    """The stable code of a refusal; None where it may help to try again."""
    body = json.load(error)
    return None if error.code >= 500 or error.code == 429 else body["code"]


def enter():
    for url, body, fine in [(f"{URL}/v1/rooms", {"kind": "channel", "alias": sys.argv[1]}, "room_exists"),
                            (f"{ROOM}/join", None, "already_member")]:
        try:
            request("POST", url, body)
        except urllib.error.HTTPError as error:
            if (code := problem(error)) != fine:
                sys.exit(f"refused: {code}")
        except OSError as error:
            sys.exit(f"cannot reach {URL}: {error}; is the server there?")


def listen():
    cursor = "start"
    while True:
        try:
            event = {}
            for line in request("GET", f"{ROOM}/events?after={cursor}", Accept="text/event-stream"):
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    event[name] = value
                elif event.get("event") == "record":
                    cursor, record, event = event["id"], json.loads(event["data"]), {}
                    print(record["seq"], record["author"], record["event"], json.dumps(record.get("content")), flush=True)
                else:
                    event = {}
        except urllib.error.HTTPError as error:
            if code := problem(error):
                print(f"refused: {code}", file=sys.stderr)
                os._exit(1)
        except OSError as error:
            print(f"{error}; coming back", file=sys.stderr)
        time.sleep(1)  # the cursor keeps the place


enter()
threading.Thread(target=listen, daemon=True).start()
for text in map(str.strip, sys.stdin):
    message, key = {"content": {"text": text}}, str(uuid.uuid4())
    while text:  # the same key again is the same message, so trying again is safe
        try:
            request("POST", f"{ROOM}/messages", message, Idempotency_Key=key)
            break
        except urllib.error.HTTPError as error:
            if code := problem(error):
                sys.exit(f"refused: {code}")
        except OSError:
            pass
        time.sleep(1)
threading.Event().wait()
