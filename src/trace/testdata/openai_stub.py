"""An OpenAI chat endpoint for tests, with faults on demand. Standard library only.

Prints its port on the first line of standard output, then "served" for every answer it gives. Answers are functions of the
request's seed. It ends when its standard input does.
"""
import argparse
import http.server
import json
import os
import sys
import threading

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--fail-every", type=int, default=0, help="every N-th request gets --fail-status")
parser.add_argument("--fail-status", type=int, default=500)
parser.add_argument("--drop-every", type=int, default=0, help="every N-th request's connection is closed without a response")
parser.add_argument("--garbage-every", type=int, default=0, help="every N-th response is no JSON")
parser.add_argument("--hold-after", type=int, default=0, help="after N answers requests are held without a response")
parser.add_argument("--exit-after", type=int, default=0, help="the process ends after N answers")
parser.add_argument("--strict", action="store_true", help="refuse fields that OpenAI's API does not have")
parser.add_argument("--api-key", default="")
options = parser.parse_args()

KNOWN = {"model", "messages", "temperature", "top_p", "max_tokens", "seed", "logprobs", "stream"}
lock = threading.Lock()
counts = {"requests": 0, "answers": 0}


def completion(request):
    seed = request["seed"]
    reasoning, content = f"thought of {seed}", f"```python\nseed = {seed}\n```"
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content, "reasoning_content": reasoning}}
    if request.get("return_token_ids"):
        choice["token_ids"] = [seed % 1000, 13, 11]
        choice["logprobs"] = {"content": [{"token": "x", "logprob": -0.5}, {"token": "y", "logprob": -0.25}, {"token": "z", "logprob": 0.0}]}
    else:
        choice["message"] = {"role": "assistant", "content": f"<think>{reasoning}</think>\n{content}"}
    body = {"object": "chat.completion", "model": request["model"], "choices": [choice],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 1}}}
    if request.get("return_token_ids"):
        body["prompt_token_ids"] = [10, 11, 12, 13, 14, 15, 16]
    return body


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, text):
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message):
        self.reply(status, json.dumps({"error": {"message": message, "code": status}}))

    def authorized(self):
        return not options.api_key or self.headers.get("Authorization") == "Bearer " + options.api_key

    def do_GET(self):
        if not self.authorized():
            return self.refuse(401, "wrong API key")
        self.reply(200, json.dumps({"object": "list", "data": [{"id": "stub-model", "object": "model"}]}))

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.authorized():
            return self.refuse(401, "wrong API key")
        if self.path != "/v1/chat/completions":
            return self.refuse(404, "no such path " + self.path)
        if options.strict and set(request) - KNOWN:
            return self.refuse(400, f"unknown fields {sorted(set(request) - KNOWN)}")
        if options.strict and any(set(message) - {"role", "content"} for message in request["messages"]):
            return self.refuse(400, "unknown fields of a message")
        if "REFUSE" in request["messages"][0]["content"]:
            return self.refuse(400, "the prompt is too long")
        with lock:
            counts["requests"] += 1
            number = counts["requests"]
            held = options.hold_after and counts["answers"] >= options.hold_after
        if held:
            threading.Event().wait()
        if options.drop_every and number % options.drop_every == 0:
            self.close_connection = True
            return self.connection.close()
        if options.fail_every and number % options.fail_every == 0:
            return self.refuse(options.fail_status, "out of order")
        if options.garbage_every and number % options.garbage_every == 0:
            return self.reply(200, "{\"choices\": [")
        with lock:
            counts["answers"] += 1
            self.reply(200, json.dumps(completion(request)))
            print("served", flush=True)
            if options.exit_after and counts["answers"] >= options.exit_after:
                os._exit(0)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        pass  # a client that goes away is part of the tests


server = Server(("127.0.0.1", options.port), Handler)
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
os._exit(0)
