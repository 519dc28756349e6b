"""Real clients against the real server on the demo checkpoint: the openai package, httpx, and bare sockets."""

import asyncio
import json
import pathlib
import signal
import socket
import tempfile
import time
import threading
import unittest
from typing import Literal

import httpx
import openai
import pydantic
from demo_adapter import make_adapter
from server_process import Server

MESSAGES = [{"role": "user", "content": "What is 2 + 3?"}]
THINKING_OFF = {"chat_template_kwargs": {"enable_thinking": False}}

TIMER_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "set_timer",
            "parameters": {"type": "object", "properties": {"minutes": {"type": "integer"}, "label": {"type": "string"}}},
        },
    }
]
# The demo checkpoint's template leaves tools to the system message; this is the text that it was trained with.
TIMER_SYSTEM = """# Tools

You have access to the following functions:

<tools>
<function>
<name>set_timer</name>
<description>Set a timer.</description>
<parameters>
<parameter>
<name>minutes</name>
<type>integer</type>
<description>Length in minutes</description>
</parameter>
<parameter>
<name>label</name>
<type>string</type>
<description>What the timer is for</description>
</parameter>
<required>["minutes", "label"]</required>
</parameters>
</function>
</tools>

If you choose to call a function ONLY reply in the following format with NO suffix:

<tool_call>
<function=example_function_name>
<parameter=example_parameter_1>
value_1
</parameter>
<parameter=example_parameter_2>
This is the value for the second parameter
that can span
multiple lines
</parameter>
</function>
</tool_call>

<IMPORTANT>
Reminder:
- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested within <tool_call></tool_call> XML tags
- Required parameters MUST be specified
- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT after
- If there is no function call available, answer the question like normal with your current knowledge and do not tell the user about function calls
</IMPORTANT>"""
TIMER_MESSAGES = [
    {"role": "system", "content": TIMER_SYSTEM},
    {"role": "user", "content": "Set a timer of 5 minutes for tea."},
]


def joined(chunks, field):
    return "".join(getattr(c.choices[0].delta, field, None) or "" for c in chunks if c.choices)


class ClientTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server("--max-num-seqs", "8", "--max-model-len", "2048", "--max-queue", "8"))
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="none", max_retries=5)
        cls.http = cls.enterClassContext(httpx.Client(base_url=cls.server.url, timeout=120))

    def chat(self, **parameters):
        return self.client.chat.completions.create(model="demo", messages=MESSAGES, **parameters)

    def test_models_and_probes(self):
        self.assertEqual([model.id for model in self.client.models.list()], ["demo"])
        self.assertEqual(self.client.models.retrieve("demo").max_model_len, 2048)
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("nothing")
        for path in ("/health", "/ready", "/version"):
            self.assertEqual(self.http.get(path).status_code, 200, path)

    def test_chat_whole_and_streamed_are_equal(self):
        parameters = {"temperature": 0, "max_tokens": 200, "seed": 1}
        whole = self.chat(**parameters)
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}, **parameters))
        message = whole.choices[0].message
        self.assertEqual(joined(chunks, "content"), message.content)
        self.assertEqual(joined(chunks, "reasoning"), message.reasoning or "")
        self.assertEqual(joined(chunks, "reasoning_content"), message.reasoning_content or "")
        self.assertEqual(message.reasoning, message.reasoning_content)
        self.assertNotIn("think>", message.content + message.reasoning)
        self.assertTrue(message.reasoning)
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
        self.assertEqual(chunks[-2].choices[0].finish_reason, whole.choices[0].finish_reason)
        self.assertGreater(whole.usage.completion_tokens_details.reasoning_tokens, 0)
        self.assertEqual(
            whole.usage.completion_tokens_details.reasoning_tokens,
            chunks[-1].usage.completion_tokens_details.reasoning_tokens,
        )

    def test_thinking_off_puts_the_answer_in_content(self):
        parameters = {"temperature": 0, "max_tokens": 50, "extra_body": THINKING_OFF}
        whole = self.chat(**parameters)
        self.assertTrue(whole.choices[0].message.content)
        self.assertIsNone(whole.choices[0].message.reasoning)
        self.assertEqual(whole.usage.completion_tokens_details.reasoning_tokens, 0)
        chunks = list(self.chat(stream=True, **parameters))
        self.assertEqual(joined(chunks, "content"), whole.choices[0].message.content)
        self.assertEqual(joined(chunks, "reasoning"), "")
        effort = self.chat(temperature=0, max_tokens=50, reasoning_effort="none")
        self.assertEqual(effort.choices[0].message.content, whole.choices[0].message.content)

    def test_a_thought_that_is_never_closed_is_not_lost(self):
        reply = self.chat(temperature=0, max_tokens=3, extra_body={"ignore_eos": True, "return_token_ids": True})
        self.assertEqual(reply.choices[0].finish_reason, "length")
        self.assertEqual(reply.choices[0].message.content, "")
        ids = reply.choices[0].token_ids
        self.assertEqual(len(ids), 3)
        text = self.http.post("/detokenize", json={"tokens": ids}).json()["prompt"]
        self.assertEqual(reply.choices[0].message.reasoning, text)

    def test_every_budget_ends_the_thought(self):
        for budget in (
            {"thinking_token_budget": 0},
            {"reasoning_budget_tokens": 0},
            {"thinking_budget_tokens": 0},
            {"reasoning_budget": 0},
            {"nvext": {"max_thinking_tokens": 0}},
        ):
            reply = self.chat(temperature=0, max_tokens=60, extra_body=budget)
            self.assertEqual(reply.usage.completion_tokens_details.reasoning_tokens, 0, budget)
            self.assertTrue(reply.choices[0].message.content, budget)

    def test_logprobs(self):
        reply = self.chat(temperature=0, max_tokens=5, logprobs=True, top_logprobs=2)
        content = reply.choices[0].logprobs.content
        self.assertEqual(len(content), 5)
        for token in content:
            self.assertEqual(len(token.top_logprobs), 2)
            self.assertEqual(token.top_logprobs[0].token, token.token)  # greedy
            self.assertLessEqual(token.logprob, 0)
        chunks = list(self.chat(temperature=0, max_tokens=5, logprobs=True, top_logprobs=2, stream=True))
        streamed = [t for c in chunks if c.choices and c.choices[0].logprobs for t in c.choices[0].logprobs.content]
        self.assertEqual(streamed, content)

    def test_tool_calls_whole_and_streamed_are_equal(self):
        parameters = {"model": "demo", "messages": TIMER_MESSAGES, "tools": TIMER_TOOLS}
        parameters |= {"temperature": 0, "max_tokens": 300}
        choice = self.client.chat.completions.create(**parameters).choices[0]
        chunks = [c.choices[0] for c in self.client.chat.completions.create(stream=True, **parameters)]
        calls = {}
        for delta in [d for chunk in chunks for d in chunk.delta.tool_calls or []]:
            call = calls.setdefault(delta.index, {"name": "", "arguments": ""})
            call["name"] += delta.function.name or ""
            call["arguments"] += delta.function.arguments or ""
        whole = [{"name": c.function.name, "arguments": c.function.arguments} for c in choice.message.tool_calls or []]
        self.assertEqual(list(calls.values()), whole)
        self.assertTrue(whole)
        self.assertEqual(choice.finish_reason, "tool_calls")
        self.assertEqual(chunks[-1].finish_reason, "tool_calls")
        self.assertEqual(whole[0]["name"], "set_timer")
        self.assertEqual(json.loads(whole[0]["arguments"]), {"minutes": 5, "label": "tea"})
        off = self.client.chat.completions.create(tool_choice="none", **parameters).choices[0]
        self.assertIsNone(off.message.tool_calls)
        self.assertIn("<tool_call>", off.message.content)
        required = self.client.chat.completions.create(tool_choice="required", **parameters).choices[0]
        self.assertEqual(json.loads(required.message.tool_calls[0].function.arguments), {"minutes": 5, "label": "tea"})

    def test_n_stop_seed(self):
        first = self.chat(n=3, max_tokens=12, seed=5)
        second = self.chat(n=3, max_tokens=12, seed=5)
        texts = [choice.message.reasoning for choice in first.choices]
        self.assertEqual(texts, [choice.message.reasoning for choice in second.choices])
        self.assertEqual([choice.index for choice in first.choices], [0, 1, 2])
        self.assertGreater(len(set(texts)), 1)
        completion = self.client.completions.create(model="demo", prompt="import torch", temperature=0, max_tokens=30)
        stop = completion.choices[0].text[5:8]
        stopped = self.client.completions.create(
            model="demo", prompt="import torch", temperature=0, max_tokens=30, stop=stop
        )
        self.assertEqual(stopped.choices[0].text, completion.choices[0].text.split(stop)[0])
        self.assertEqual((stopped.choices[0].finish_reason, stopped.choices[0].stop_reason), ("stop", stop))

    def test_completions_of_several_prompts_echo_and_token_ids(self):
        ids = self.http.post("/tokenize", json={"prompt": "import torch"}).json()["tokens"]
        reply = self.client.completions.create(
            model="demo", prompt=["import torch", "def f"], temperature=0, max_tokens=4, echo=True, logprobs=1
        )
        self.assertEqual([choice.index for choice in reply.choices], [0, 1])
        self.assertTrue(reply.choices[0].text.startswith("import torch"))
        self.assertEqual(len(reply.choices[0].logprobs.tokens), len(ids) + 4)
        self.assertIsNone(reply.choices[0].logprobs.token_logprobs[0])
        by_ids = self.client.completions.create(
            model="demo", prompt=ids, temperature=0, max_tokens=4, extra_body={"return_token_ids": True}
        )
        self.assertEqual("import torch" + by_ids.choices[0].text, reply.choices[0].text)
        self.assertEqual(by_ids.choices[0].prompt_token_ids, ids)
        scored = self.client.completions.create(model="demo", prompt=ids, max_tokens=0, echo=True, logprobs=0)
        self.assertEqual(scored.choices[0].text, "import torch")
        self.assertEqual(scored.usage.completion_tokens, 0)
        chunks = list(self.client.completions.create(model="demo", prompt=ids, temperature=0, max_tokens=4, stream=True))
        self.assertEqual("".join(c.choices[0].text for c in chunks), by_ids.choices[0].text)

    def test_errors_have_openais_shape(self):
        cases = [
            ({"messages": MESSAGES, "temperature": "hot"}, 400, "temperature"),
            ({"messages": MESSAGES, "top_p": 2}, 400, "top_p"),
            ({"messages": MESSAGES, "n": 0}, 400, "n"),
            ({"messages": MESSAGES, "max_tokens": 100000}, 400, None),
            ({"messages": "hello"}, 400, "messages"),
            ({}, 400, "messages"),
            ({"messages": MESSAGES, "model": "nothing"}, 404, "model"),
            ({"messages": MESSAGES, "max_completion_tokens": 0}, 400, "max_completion_tokens"),
            ({"messages": MESSAGES, "chat_template_kwargs": 5}, 400, "chat_template_kwargs"),
            ({"messages": MESSAGES, "bad_words": ["a"]}, 400, "bad_words"),
            ({"messages": MESSAGES, "functions": [{"name": "f"}]}, 400, "functions"),
        ]
        for body, status, param in cases:
            for stream in (False, True):
                reply = self.http.post("/v1/chat/completions", json={**body, "stream": stream})
                self.assertEqual(reply.status_code, status, body)
                error = reply.json()["error"]
                self.assertEqual((error["param"], error["code"]), (param, status), error)
                self.assertTrue(error["message"] and error["type"])
        self.assertEqual(self.http.post("/v1/chat/completions", content=b"{nonsense").status_code, 400)
        reply = self.http.get("/v1/chat/completions")
        self.assertEqual((reply.status_code, reply.headers["allow"]), (405, "POST, OPTIONS"))
        # What a page of another site may send without asking.
        form = {"content": json.dumps({"messages": MESSAGES}), "headers": {"Content-Type": "text/plain"}}
        self.assertEqual(self.http.post("/v1/chat/completions", **form).status_code, 415)
        self.assertEqual(self.http.get("/nothing").status_code, 404)
        keys = ",".join(f'"k{i}":0' for i in range(100_000))
        self.assertEqual(self.http.post("/v1/chat/completions", content="{" + keys + "}").status_code, 400)
        with self.assertRaises(openai.BadRequestError) as raised:
            self.chat(top_p=3)
        self.assertEqual(raised.exception.param, "top_p")

    def test_a_required_and_a_named_tool_are_called(self):
        other = {"type": "function", "function": {"name": "stop_all"}}
        named = {"type": "function", "function": {"name": "set_timer"}}
        for choice in ("required", named):
            for temperature in (0, 1.5):
                parameters = {"tools": [*TIMER_TOOLS, other], "tool_choice": choice, "temperature": temperature, "seed": 5, "max_tokens": 400,
                              "extra_body": {"thinking_token_budget": 20}}
                reply = self.chat(**parameters).choices[0]
                self.assertTrue(reply.message.tool_calls, reply)
                if choice == named:
                    self.assertEqual({call.function.name for call in reply.message.tool_calls}, {"set_timer"})
                if reply.finish_reason == "tool_calls":
                    for call in reply.message.tool_calls:
                        self.assertIsInstance(json.loads(call.function.arguments), dict)
                chunks = list(self.chat(stream=True, **parameters))
                pieces = [call for c in chunks if c.choices for call in c.choices[0].delta.tool_calls or []]
                arguments = "".join(call.function.arguments or "" for call in pieces)
                self.assertEqual(arguments, "".join(call.function.arguments for call in reply.message.tool_calls))
        for choice in ("required", {"type": "function", "function": {"name": "unknown"}}, "sometimes"):
            tools = [] if choice == "required" else TIMER_TOOLS
            answer = self.http.post("/v1/chat/completions", json={"messages": MESSAGES, "tools": tools, "tool_choice": choice})
            self.assertEqual((answer.status_code, answer.json()["error"]["param"]), (400, "tool_choice"))

    def test_a_json_schema_is_enforced_after_the_thought(self):
        class Sum(pydantic.BaseModel):
            question: Literal["2 + 3", "3 + 2"]
            digits: list[Literal[2, 3, 5]] = pydantic.Field(max_length=3)
            done: bool

        for temperature in (0, 1.5):
            parameters = {"model": "demo", "messages": MESSAGES, "temperature": temperature, "seed": 4, "max_tokens": 600}
            reply = self.client.chat.completions.parse(response_format=Sum, extra_body={"thinking_token_budget": 40}, **parameters)
            self.assertEqual(reply.choices[0].finish_reason, "stop")
            self.assertIsInstance(reply.choices[0].message.parsed, Sum)
            self.assertTrue(reply.choices[0].message.reasoning)

    def test_structured_outputs_of_every_kind(self):
        cases = [
            ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes|no"),
            ({"structured_outputs": {"regex": "[0-9]{3}-[a-f]{2}"}}, "[0-9]{3}-[a-f]{2}"),
            ({"structured_outputs": {"grammar": 'root ::= "x" ("+" "y")? "!"'}}, r"x(\+y)?!"),
            ({"guided_choice": ["left", "right"]}, "left|right"),
            ({"guided_regex": "a{2,4}b"}, "a{2,4}b"),
            ({"guided_json": {"enum": [1, "one"]}}, '1|"one"'),
        ]
        for body, pattern in cases:
            extra = {**body, **THINKING_OFF}
            whole = self.chat(temperature=1, seed=3, max_tokens=60, extra_body=extra).choices[0]
            self.assertRegex(whole.message.content, f"^({pattern})$")
            self.assertEqual(whole.finish_reason, "stop", body)
            chunks = list(self.chat(temperature=1, seed=3, max_tokens=60, stream=True, extra_body=extra))
            self.assertEqual(joined(chunks, "content"), whole.message.content)

    def test_a_form_that_cannot_be_enforced_names_its_field(self):
        cases = [
            ({"response_format": {"type": "xml"}}, "response_format"),
            ({"response_format": "json"}, "response_format"),
            ({"response_format": {"type": "json_schema"}}, "response_format"),
            ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}}, "response_format"),
            ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex"),
            ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs.choice"),
            ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
            ({"guided_choice": [1]}, "guided_choice"),
            ({"guided_choice": []}, "guided_choice"),
        ]
        for body, param in cases:
            reply = self.http.post("/v1/chat/completions", json={"messages": MESSAGES, **body})
            self.assertEqual(reply.status_code, 400, body)
            self.assertEqual(reply.json()["error"]["param"], param, reply.text)

    def test_unknown_parameters_are_accepted(self):
        self.assertTrue(self.chat(max_tokens=1, extra_body={"cache_salt": "x", "no_such_thing": [1]}).choices)

    def test_too_large_and_too_many(self):
        large = b'{"messages": "' + b"x" * (17 << 20) + b'"}'
        reply = self.http.post("/v1/chat/completions", content=large)
        self.assertEqual((reply.status_code, reply.json()["error"]["code"]), (413, 413))
        with self.client.chat.completions.create(
            model="demo", messages=MESSAGES, n=16, max_tokens=1000, stream=True, extra_body={"ignore_eos": True}
        ) as stream:
            next(iter(stream))
            reply = self.http.post("/v1/chat/completions", json={"messages": MESSAGES, "max_tokens": 1})
            self.assertEqual(reply.status_code, 429)
            self.assertIn("retry-after", reply.headers)

    def test_async_clients_at_once_equal_their_solo_runs(self):
        async def run():
            client = openai.AsyncOpenAI(base_url=self.server.url + "/v1", api_key="none", max_retries=0)

            async def one(seed):
                stream = await client.chat.completions.create(
                    model="demo", messages=MESSAGES, seed=seed, max_tokens=40, stream=True
                )
                return "".join([(c.choices[0].delta.model_extra.get("reasoning") or "") for c in [c async for c in stream]])

            return await asyncio.gather(*[one(seed) for seed in range(8)])

        together = asyncio.run(run())
        for seed, text in enumerate(together):
            self.assertEqual(text, self.chat(seed=seed, max_tokens=40).choices[0].message.reasoning)

    def test_a_client_that_leaves_frees_its_place(self):
        body = {"messages": MESSAGES, "max_tokens": 1500, "ignore_eos": True, "n": 8, "stream": True}
        aborted = self.metric('vllm:request_success_total{model_name="demo",finished_reason="abort"}')
        with self.http.stream("POST", "/v1/chat/completions", json=body) as reply:
            next(reply.iter_lines())
        # Eight places are taken by those that left: this waits for one.
        self.assertTrue(self.chat(max_tokens=1).choices)
        self.assertEqual(
            self.metric('vllm:request_success_total{model_name="demo",finished_reason="abort"}'), aborted + 8
        )

    def test_a_client_that_leaves_is_noticed_whatever_it_sent_ahead(self):
        body = json.dumps({"prompt": "a", "max_tokens": 1900, "ignore_eos": True, "n": 8}).encode()
        head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        ended = ['vllm:request_success_total{model_name="demo",finished_reason="%s"}' % reason for reason in ("abort", "length")]
        aborted, whole = map(self.metric, ended)
        running = 'vllm:num_requests_running{model_name="demo"}'
        with socket.create_connection(self.server.url.removeprefix("http://").split(":"), timeout=30) as sock:
            sock.sendall(head + body + b"\r\n" + head[:40])
            while self.metric(running) < 8:
                pass
        self.assertTrue(self.chat(max_tokens=1).choices)  # waits for one of the eight places
        self.assertEqual(self.metric(ended[0]), aborted + 8)
        self.assertEqual(self.metric(ended[1]), whole + 1)

    def test_an_answer_of_tool_calls_alone_is_taken_back_as_history(self):
        call = {"id": "a", "type": "function", "function": {"name": "set_timer", "arguments": "{}"}}
        for content in ({"content": None}, {}):
            history = [*MESSAGES, {"role": "assistant", "tool_calls": [call], **content}, {"role": "tool", "tool_call_id": "a", "content": "5"}]
            self.assertTrue(self.client.chat.completions.create(model="demo", messages=history, max_tokens=4).choices)

    def test_prompt_ids_stand_beside_the_choices_of_a_stream(self):
        chunks = list(self.chat(max_tokens=4, n=2, stream=True, extra_body={"return_token_ids": True}))
        found = [chunk.prompt_token_ids for chunk in chunks if "prompt_token_ids" in chunk.model_extra]
        self.assertEqual(len(found), 1)
        self.assertEqual(found[0], self.chat(max_tokens=4, extra_body={"return_token_ids": True}).prompt_token_ids)

    def metric(self, name):
        for line in self.http.get("/metrics").text.splitlines():
            if line.startswith(name + " "):
                return float(line.rsplit(" ", 1)[1])
        self.fail(name)

    def test_keep_alive_pipelining_head_and_http_1_0(self):
        with socket.create_connection(self.server.url.removeprefix("http://").split(":"), timeout=30) as sock:
            sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nHEAD /version HTTP/1.1\r\nHost: x\r\n\r\n")
            sock.sendall(b"\r\nGET http://x/ready?now HTTP/1.0\r\n\r\n")  # a line break that is left over, and a whole URL
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        self.assertEqual(answer.count(b"HTTP/1.1 200 OK"), 3)
        self.assertNotIn(b"version", answer)

    def test_a_request_after_one_that_came_during_an_answer_is_read_as_it_was_sent(self):
        def read_until(sock, end):
            received = b""
            while end not in received:
                piece = sock.recv(65536)
                self.assertTrue(piece, received)
                received += piece
            return received

        body = json.dumps({"messages": MESSAGES, "max_tokens": 200, "stream": True, "ignore_eos": True}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        with socket.create_connection(self.server.url.removeprefix("http://").split(":"), timeout=30) as sock:
            sock.sendall(head + body)
            read_until(sock, b"data: ")
            sock.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
            read_until(sock, b'"object":"list"')
            sock.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertTrue(read_until(sock, b"}").startswith(b"HTTP/1.1 200"))
            sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertIn(b"200 OK", b"".join(iter(lambda: sock.recv(65536), b"")))


class OperationTest(unittest.TestCase):
    def test_keys_cors_and_the_access_log(self):
        with Server("--api-key", "secret", "--cors-origin", "https://page.example", "--max-body-bytes", "1000000") as server:
            with httpx.Client(base_url=server.url, timeout=120) as http:
                self.assertEqual(http.get("/v1/models").status_code, 401)
                self.assertEqual(http.get("/v1/models", headers={"Authorization": "Bearer wrong"}).status_code, 401)
                self.assertEqual(http.get("/health").status_code, 200)
                headers = {"Authorization": "Bearer secret", "Origin": "https://page.example", "X-Request-Id": "mine-1"}
                reply = http.get("/v1/models", headers=headers)
                self.assertEqual(reply.status_code, 200)
                self.assertEqual(reply.headers["access-control-allow-origin"], "https://page.example")
                self.assertEqual(reply.headers["x-request-id"], "mine-1")
                reply = http.post("/v1/load_lora_adapter", json={}, headers=headers)
                self.assertEqual(reply.status_code, 404)
                # The engine refuses this one; its answer carries the headers too.
                reply = http.post("/v1/completions", json={"prompt": [1] * 100_000, "max_tokens": 1}, headers=headers)
                self.assertEqual(reply.status_code, 400)
                self.assertEqual(reply.headers["access-control-allow-origin"], "https://page.example")
                self.assertEqual(reply.headers["x-request-id"], "mine-1")
                # What is refused before it is a request is answered and logged like the rest.
                reply = http.post("/v1/completions", content=b"x" * 1_000_001, headers=headers)
                self.assertEqual(reply.status_code, 413)
                self.assertEqual((reply.headers["access-control-allow-origin"], reply.headers["x-request-id"]), ("https://page.example", "mine-1"))
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0)
            logged = [json.loads(line) for line in server.lines if line.startswith("{")]
            self.assertEqual([entry["status"] for entry in logged], [401, 401, 200, 200, 404, 400, 413])
            self.assertEqual(logged[3]["request_id"], "mine-1")

    def test_adapters_come_and_go_while_the_server_runs(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        adapter = {"lora_name": "tuned", "lora_path": str(make_adapter(folder))}
        body = {"messages": MESSAGES, "temperature": 0, "max_tokens": 24}
        with Server("--allow-lora-updates") as server, httpx.Client(base_url=server.url, timeout=120) as http:

            def answer(model):
                reply = http.post("/v1/chat/completions", json={**body, "model": model})
                return reply.status_code, reply.json().get("choices")

            base = answer("demo")
            self.assertEqual(answer("tuned")[0], 404)
            self.assertEqual(http.post("/v1/load_lora_adapter", json=adapter).status_code, 200)
            self.assertEqual([model["id"] for model in http.get("/v1/models").json()["data"]], ["demo", "tuned"])
            tuned = answer("tuned")
            self.assertEqual(tuned[0], 200)
            self.assertNotEqual(tuned, base)
            self.assertEqual(answer("demo"), base)
            self.assertEqual(http.post("/v1/load_lora_adapter", json=adapter).status_code, 400)
            missing = http.post("/v1/load_lora_adapter", json={"lora_name": "other", "lora_path": str(folder / "none")})
            self.assertEqual(missing.status_code, 400)
            no_folder = http.post("/v1/load_lora_adapter", json={"lora_name": "other", "lora_path": "/etc/passwd"})
            self.assertEqual(no_folder.status_code, 400)
            self.assertEqual(http.post("/v1/unload_lora_adapter", json={"lora_name": "tuned"}).status_code, 200)
            self.assertEqual(answer("tuned")[0], 404)

    def test_a_name_with_a_slash_is_found(self):
        with Server("--served-model-name", "nvidia/demo 2") as server:
            client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
            self.assertEqual(client.models.retrieve("nvidia/demo 2").id, "nvidia/demo 2")

    def test_headers_and_connections_have_limits(self):
        with Server("--max-header-bytes", "2048", "--max-connections", "2") as server:
            with httpx.Client(base_url=server.url, timeout=120) as http:
                self.assertEqual(http.get("/health").status_code, 200)
                self.assertEqual(http.get("/health", headers={"X-Long": "x" * 4000}).status_code, 431)
            host, port = server.url.removeprefix("http://").split(":")

            def connect():
                connection = socket.create_connection((host, int(port)), timeout=60)
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                return connection, connection.recv(4096)

            held = []
            deadline = time.monotonic() + 60
            while len(held) < 2:  # the server may still hold the client's connections above, which are closed
                connection, reply = connect()
                if reply.startswith(b"HTTP/1.1 200"):
                    held.append(self.enterContext(connection))
                    continue
                connection.close()
                self.assertLess(time.monotonic(), deadline, reply)
            third, reply = connect()
            third.close()
            self.assertTrue(reply.startswith(b"HTTP/1.1 503"), reply)

    def test_a_termination_lets_requests_end(self):
        with Server() as server, httpx.Client(base_url=server.url, timeout=120) as http:
            body = {"messages": MESSAGES, "max_tokens": 400, "ignore_eos": True, "stream": True}
            with http.stream("POST", "/v1/chat/completions", json=body) as reply:
                lines = reply.iter_lines()
                next(lines)
                server.signal(signal.SIGTERM)
                rest = list(lines)
            self.assertEqual(rest[-2], "data: [DONE]")
            self.assertIn('"finish_reason":"length"', rest[-4])
            self.assertEqual(server.wait(), 0)

    def test_the_deadline_aborts_what_still_runs(self):
        with Server("--drain-timeout-s", "0") as server, httpx.Client(base_url=server.url, timeout=120) as http:
            body = {"messages": MESSAGES, "max_tokens": 4000, "ignore_eos": True, "stream": True}
            with http.stream("POST", "/v1/chat/completions", json=body) as reply:
                lines = reply.iter_lines()
                next(lines)
                server.signal(signal.SIGTERM)
                rest = list(lines)
            self.assertIn('"finish_reason":"abort"', rest[-4])
            self.assertEqual(server.wait(), 0)

    def test_a_second_signal_ends_the_process(self):
        with Server() as server, httpx.Client(base_url=server.url, timeout=120) as http:
            body = {"messages": MESSAGES, "max_tokens": 4000, "ignore_eos": True, "stream": True}
            with http.stream("POST", "/v1/chat/completions", json=body) as reply:
                lines = reply.iter_lines()  # kept: a dropped iterator closes the connection
                next(lines)
                server.signal(signal.SIGTERM)
                draining = threading.Event()
                while not any("shutting down" in line for line in server.lines):
                    draining.wait(0.01)
                server.signal(signal.SIGTERM)
                self.assertEqual(server.wait(), -signal.SIGTERM)


if __name__ == "__main__":
    unittest.main(verbosity=2)
