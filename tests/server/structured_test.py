"""What a schema asks for comes back: tools and formats of the openai package against the real server, with pydantic and
jsonschema as judges."""

import datetime
import enum
import json
import unittest
import uuid
from typing import Annotated, Literal, Optional, Union

import httpx
import jsonschema
import openai
import pydantic
from server_process import Server

MESSAGES = [{"role": "user", "content": "What is 2 + 3?"}]
THINKING_OFF = {"chat_template_kwargs": {"enable_thinking": False}}
EOS = 11  # of the demo checkpoint


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


Short = Annotated[str, pydantic.Field(max_length=8)]


class Point(pydantic.BaseModel):
    x: int = pydantic.Field(ge=-5, le=5)
    label: Optional[Literal["a", "b"]] = None


class Circle(pydantic.BaseModel):
    kind: Literal["circle"]
    radius: Annotated[float, pydantic.Field(gt=0, lt=10)]


class Square(pydantic.BaseModel):
    kind: Literal["square"]
    side: int = pydantic.Field(ge=1, le=9)


class Paint(pydantic.BaseModel):
    """Enums, optional values and literals."""

    color: Color
    second: Optional[Color]
    level: Level
    mode: Literal["5", "null", "on"]
    mixed: Literal["1", 2]
    fixed: Literal["only"]
    note: Optional[Short]


class Draw(pydantic.BaseModel):
    """Nested models, lists, unions and bounded numbers."""

    center: Point
    path: Annotated[list[Point], pydantic.Field(min_length=1, max_length=2)]
    shape: Annotated[Union[Circle, Square], pydantic.Field(discriminator="kind")]
    maybe: Optional[Point]
    stars: int = pydantic.Field(ge=1, le=5)
    ratio: float = pydantic.Field(ge=0, le=1)
    width: Union[Annotated[int, pydantic.Field(ge=10)], Literal["5", "auto"]]
    tags: Annotated[list[Color], pydantic.Field(max_length=3)]
    flag: bool


class Strings(pydantic.BaseModel):
    """Strings of a certain form."""

    code: str = pydantic.Field(pattern="^[0-9]{3}$")
    name: str = pydantic.Field(min_length=2, max_length=5)
    upper: str = pydantic.Field(pattern="^[A-Z]+$", max_length=4)
    day: datetime.date
    at: datetime.datetime
    id: uuid.UUID
    site: Annotated[str, pydantic.Field(json_schema_extra={"format": "email"})]


class Loose(pydantic.BaseModel):
    """What pydantic leaves out where it may: defaults, tuples, maps, anything."""

    count: Annotated[int, pydantic.Field(ge=0, lt=100)] = 3
    pair: tuple[Literal["x"], bool]
    scores: dict[str, Annotated[int, pydantic.Field(ge=0, le=9)]] = pydantic.Field(default={}, max_length=1)
    unit: Color = Color.RED
    either: Union[bool, Color, None] = None


MODELS = [Paint, Draw, Strings]


def named(model):
    return {"type": "function", "function": {"name": model.__name__}}


class StructuredTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server("--max-num-seqs", "8", "--max-model-len", "4096", "--max-queue", "32"))
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="none", max_retries=0)
        cls.http = cls.enterClassContext(httpx.Client(base_url=cls.server.url, timeout=120))

    def ask(self, **parameters):
        extra = {**THINKING_OFF, **parameters.pop("extra_body", {})}
        return self.client.chat.completions.create(model="demo", messages=MESSAGES, extra_body=extra, **parameters)

    def post(self, body):
        return self.http.post("/v1/chat/completions", json={"messages": MESSAGES, **THINKING_OFF, **body})

    def assert_valid(self, schema, arguments):
        jsonschema.validate(json.loads(arguments), schema, format_checker=jsonschema.FormatChecker())

    def test_forced_arguments_of_pydantic_tools_are_their_models(self):
        for model in MODELS:
            tool = openai.pydantic_function_tool(model)
            for temperature, seed in ((0, 1), (1, 2), (1.5, 3), (1.5, 4)):
                for choice in ("required", named(model)):
                    parameters = {"tools": [tool], "tool_choice": choice, "temperature": temperature, "seed": seed, "max_tokens": 3000}
                    with self.subTest(model=model.__name__, temperature=temperature, seed=seed, choice=choice):
                        reply = self.client.chat.completions.parse(
                            model="demo", messages=MESSAGES, parallel_tool_calls=False, extra_body=THINKING_OFF, **parameters
                        ).choices[0]
                        self.assertEqual(len(reply.message.tool_calls), 1)
                        function = reply.message.tool_calls[0].function
                        self.assertIsInstance(function.parsed_arguments, model)
                        self.assert_valid(tool["function"]["parameters"], function.arguments)
                        chunks = self.ask(stream=True, parallel_tool_calls=False, **parameters)
                        pieces = [call for c in chunks if c.choices for call in c.choices[0].delta.tool_calls or []]
                        self.assertEqual("".join(piece.function.arguments or "" for piece in pieces), function.arguments)

    def test_forced_arguments_of_functions_that_are_not_strict_are_too(self):
        tool = {"type": "function", "function": {"name": "Loose", "parameters": Loose.model_json_schema()}}
        for seed in range(6):
            reply = self.ask(tools=[tool], tool_choice=named(Loose), temperature=1.2, seed=seed, max_tokens=3000).choices[0]
            arguments = reply.message.tool_calls[0].function.arguments
            self.assert_valid(tool["function"]["parameters"], arguments)
            Loose.model_validate_json(arguments)

    def test_a_named_function_is_called_once(self):
        tool = {"type": "function", "function": {"name": "now"}}
        for seed in range(4):
            parameters = {"tools": [tool], "temperature": 1.5, "seed": seed, "max_tokens": 300, "logit_bias": {EOS: -100}}
            reply = self.ask(tool_choice=named(type("now", (), {})), **parameters).choices[0]
            self.assertEqual([call.function.name for call in reply.message.tool_calls], ["now"])

    def test_a_parsed_format_is_its_model(self):
        for model in (*MODELS, Loose):
            for seed in range(3):
                with self.subTest(model=model.__name__, seed=seed):
                    if model is Loose:
                        schema = {"name": "Loose", "schema": Loose.model_json_schema()}
                        format = {"type": "json_schema", "json_schema": schema}
                        reply = self.ask(response_format=format, temperature=1.2, seed=seed, max_tokens=3000)
                        Loose.model_validate_json(reply.choices[0].message.content)
                        continue
                    reply = self.client.chat.completions.parse(
                        model="demo", messages=MESSAGES, response_format=model, temperature=1.2, seed=seed, max_tokens=3000,
                        extra_body=THINKING_OFF,
                    )  # fmt: skip
                    self.assertIsInstance(reply.choices[0].message.parsed, model)

    def test_an_answer_comes_though_the_model_would_end_in_its_thought(self):
        extra = {"chat_template_kwargs": {"enable_thinking": True}, "thinking_token_budget": 20}
        biased = {"logit_bias": {EOS: 100}, "max_tokens": 800}
        reply = self.ask(extra_body={**extra, "structured_outputs": {"choice": ["yes"]}}, **biased)
        self.assertEqual((reply.choices[0].message.content, reply.choices[0].finish_reason), ("yes", "stop"))
        tool = {"type": "function", "function": {"name": "now"}}
        reply = self.ask(extra_body=extra, tools=[tool], tool_choice="required", **biased).choices[0]
        self.assertEqual({call.function.name for call in reply.message.tool_calls}, {"now"})
        self.assertEqual(reply.finish_reason, "tool_calls")

    def test_tools_and_a_format_together_give_a_call_or_the_format(self):
        tool = openai.pydantic_function_tool(Point)
        call_start = self.http.post("/tokenize", json={"prompt": "<tool_call>", "add_special_tokens": False}).json()["tokens"]
        self.assertEqual(len(call_start), 1)
        seen = set()
        for bias in (-100, 100):
            for seed in range(2):
                reply = self.client.chat.completions.parse(
                    model="demo", messages=MESSAGES, response_format=Square, tools=[tool], temperature=1.2, seed=seed,
                    max_tokens=1500, parallel_tool_calls=False, logit_bias={call_start[0]: bias}, extra_body=THINKING_OFF,
                ).choices[0]  # fmt: skip
                if reply.message.tool_calls:
                    self.assertIsInstance(reply.message.tool_calls[0].function.parsed_arguments, Point)
                    self.assertEqual((reply.finish_reason, reply.message.content), ("tool_calls", None))
                else:
                    self.assertIsInstance(reply.message.parsed, Square)
                seen.add(bool(reply.message.tool_calls))
        self.assertEqual(seen, {False, True})
        for choice, is_call in (("required", True), ("none", False)):
            reply = self.client.chat.completions.parse(
                model="demo", messages=MESSAGES, response_format=Square, tools=[tool], tool_choice=choice, max_tokens=1500,
                parallel_tool_calls=False, extra_body=THINKING_OFF,
            ).choices[0]  # fmt: skip
            self.assertEqual(bool(reply.message.tool_calls), is_call)

    def test_a_call_that_a_stop_string_cuts_off_is_none_that_may_be_run(self):
        tool = openai.pydantic_function_tool(Point)
        for stream in (False, True):
            parameters = {"tools": [tool], "tool_choice": "required", "stop": ["</function>"], "max_tokens": 1500, "parallel_tool_calls": False}
            if stream:
                reasons = [c.choices[0].finish_reason for c in self.ask(stream=True, **parameters) if c.choices]
                self.assertEqual([reason for reason in reasons if reason], ["stop"])
            else:
                self.assertEqual(self.ask(**parameters).choices[0].finish_reason, "stop")

    def test_a_grammar_that_cannot_be_followed_is_refused_for_good(self):
        reply = self.post({"structured_outputs": {"regex": "([a-z ]?){5000}b"}, "max_tokens": 100})
        self.assertEqual(reply.status_code, 400, reply.text)
        self.assertNotIn("retry-after", reply.headers)

    def test_white_space_can_be_turned_off(self):
        schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 3}}, "required": ["a"]}
        for seed in range(3):
            outputs = {"json": schema, "disable_any_whitespace": True}
            reply = self.ask(temperature=1.5, seed=seed, max_tokens=200, extra_body={"structured_outputs": outputs})
            self.assertNotRegex(reply.choices[0].message.content, r"\s")
        reply = self.post({"structured_outputs": {"json": schema, "disable_any_whitespace": 1}})
        self.assertEqual((reply.status_code, reply.json()["error"]["param"]), (400, "structured_outputs.disable_any_whitespace"))

    def test_what_a_strict_function_asks_for_and_cannot_have_is_refused(self):
        for schema in ({"type": "integer", "multipleOf": 7}, {"type": "string", "pattern": "(?=a)"}, {"not": {}}):
            function = {"name": "f", "parameters": {"type": "object", "properties": {"v": schema}, "required": ["v"]}, "strict": True}
            tools = [{"type": "function", "function": function}]
            reply = self.post({"tools": tools, "tool_choice": "required", "max_tokens": 5})
            self.assertEqual(reply.status_code, 400, reply.text)
            self.assertTrue(reply.json()["error"]["message"].startswith("tools[0].function.parameters.properties.v"), reply.text)


if __name__ == "__main__":
    unittest.main()
