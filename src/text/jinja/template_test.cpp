#include "text/jinja/template.h"

#include <ctime>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace nemoforge::text::jinja {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using Variables = std::vector<std::pair<std::string, io::Json>>;

Result<std::string> render(std::string_view source, const Variables& variables = {},
                           const Limits& limits = {}) {
  NF_TRY(const Template parsed, Template::parse(source));
  return parsed.render(variables, limits);
}

std::string text_of(std::string_view source, const Variables& variables = {}) {
  const auto text = render(source, variables);
  return text ? *text : "error: " + text.error().to_string();
}

std::string error_of(std::string_view source, const Variables& variables = {}, const Limits& limits = {}) {
  const auto text = render(source, variables, limits);
  return text ? "no error but: " + text->substr(0, 200) : text.error().message;
}

std::string repeated(std::string_view text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

TEST(JinjaTemplate, one_parsed_template_renders_many_times) {
  const auto parsed = Template::parse("{% for m in messages %}{{ m.role }}:{{ m['content'] }}\n{% endfor %}");
  ASSERT_TRUE(parsed);
  for (const char* content : {"a", "b"}) {
    const io::Json messages = {{{"role", "user"}, {"content", content}}};
    EXPECT_EQ(parsed->render({{"messages", messages}}).value(), std::string("user:") + content + "\n");
  }
}

TEST(JinjaTemplate, threads_may_share_a_template) {
  const auto parsed = Template::parse(
      "{% macro m(x) %}<{{ x }}>{% endmacro %}{% for i in range(50) %}{{ m('a' ~ i) }}{% endfor %}{{ "
      "'q'|upper }}");
  ASSERT_TRUE(parsed);
  const std::string expected = parsed->render({}).value();
  std::vector<std::string> results(4);
  std::vector<std::thread> threads;
  threads.reserve(results.size());
  for (std::string& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) result = parsed->render({}).value();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& result : results) EXPECT_EQ(result, expected);
}

TEST(JinjaTemplate, names_what_it_does_not_know_with_the_line) {
  EXPECT_EQ(error_of("a\nb\n{{ 1|foo }}"), "line 3: unknown filter 'foo'");
  EXPECT_EQ(error_of("{{\n1 is\nfoo }}"), "line 2: unknown test 'foo'");
  EXPECT_EQ(error_of("\n{% do x %}"), "line 2: unknown tag 'do'");
  EXPECT_EQ(error_of("\n{% include 'x' %}"), "line 2: the tag 'include' is not supported in a chat template");
  EXPECT_EQ(error_of("{% import 'x' as y %}"),
            "line 1: the tag 'import' is not supported in a chat template");
  EXPECT_EQ(error_of("{% extends 'x' %}"), "line 1: the tag 'extends' is not supported in a chat template");
  EXPECT_EQ(error_of("\n\n{{ foo(1) }}"), "line 3: 'foo' is undefined");
  EXPECT_EQ(error_of("{% if true %}\n{{ 1|foo }}{% endif %}"), "line 2: unknown filter 'foo'");
  EXPECT_EQ(error_of("{{ [1]|map('foo')|list }}"), "line 1: unknown filter 'foo'");
  EXPECT_EQ(error_of("{{ 'x'.foo() }}"), "line 1: 'str object' has no attribute 'foo'");
  EXPECT_EQ(error_of("{{ self.x() }}"),
            "line 1: 'self', the template's blocks, is not supported in a chat template");
  EXPECT_EQ(error_of("{{ ['a']|map('upper') }}"), "line 1: a generator has no text to print");
}

TEST(JinjaTemplate, speaks_of_undefined_values_as_jinja_does) {
  EXPECT_EQ(error_of("{{ a.b }}"), "line 1: 'a' is undefined");
  EXPECT_EQ(error_of("{{ a.b.c }}", {{"a", io::Json::object()}}),
            "line 1: 'dict object' has no attribute 'b'");
  EXPECT_EQ(error_of("{{ a[3].c }}", {{"a", io::Json::array()}}), "line 1: list object has no element 3");
  EXPECT_EQ(error_of("{{ none.b.c }}"), "line 1: 'None' has no attribute 'b'");
  EXPECT_EQ(error_of("{% for i in [1] %}{{ loop.previtem.x }}{% endfor %}"),
            "line 1: there is no previous item");
  EXPECT_EQ(error_of("{{ [].append(1) }}"),
            "line 1: access to attribute 'append' of 'list' object is unsafe.");
  EXPECT_EQ(error_of("{% macro m(a) %}{{ a.b }}{% endmacro %}{{ m() }}"),
            "line 1: parameter 'a' was not provided");
  EXPECT_EQ(text_of("{{ a }}|{{ a|default('d') }}|{% for i in a %}x{% endfor %}"), "|d|");
}

TEST(JinjaTemplate, raise_exception_gives_its_message) {
  const auto text = render("{% if true %}\n{{ raise_exception('roles must alternate') }}{% endif %}");
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(text.error().message, "line 2: roles must alternate");
}

TEST(JinjaTemplate, the_clock_is_the_local_time) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char expected[32];
  std::strftime(expected, sizeof(expected), "%d %b %Y", &local);
  EXPECT_EQ(text_of("{{ strftime_now('%d %b %Y') }}"), expected);
}

TEST(JinjaTemplate, integers_have_128_bits) {
  EXPECT_EQ(text_of("{{ a + 1 }}", {{"a", UINT64_MAX}}), "18446744073709551616");
  EXPECT_EQ(text_of("{{ 2 ** 126 }}"), "85070591730234615865843651857942052864");
  for (const char* source :
       {"{{ 2 ** 127 }}", "{{ 2 ** 126 * 2 }}", "{{ 10 ** 38 + 10 ** 38 }}", "{{ -(2 ** 126) * 3 }}"}) {
    EXPECT_EQ(error_of(source), "line 1: an integer would need more than 128 bits") << source;
  }
  EXPECT_EQ(error_of("{{ 1" + repeated("0", 60) + " }}"), "line 1: the integer needs more than 128 bits");
  EXPECT_EQ(error_of("{{ '1" + repeated("0", 60) + "'|int }}"),
            "line 1: an integer would need more than 128 bits");
}

TEST(JinjaTemplate, every_malformed_template_names_its_line) {
  const char* kMalformed[] = {"\n{{",
                              "\n{{ }}",
                              "\n{%",
                              "\n{% %}",
                              "\n{% if %}",
                              "\n{% if x %}",
                              "\n{% for %}",
                              "\n{% for x %}",
                              "\n{% for x in %}",
                              "\n{% for x in y %}",
                              "\n{% endfor %}",
                              "\n{% else %}",
                              "\n{% elif x %}",
                              "\n{% set %}",
                              "\n{% set x = %}",
                              "\n{% set x %}",
                              "\n{% set 1 = 2 %}",
                              "\n{% set a.b.c = 1 %}",
                              "\n{% set a[0] = 1 %}",
                              "\n{% macro %}",
                              "\n{% macro m %}",
                              "\n{% macro m( %}",
                              "\n{% macro m(a=1, b) %}{% endmacro %}",
                              "\n{% macro m(a, a) %}{% endmacro %}",
                              "\n{% macro m() %}",
                              "\n{% call %}",
                              "\n{% call x %}{% endcall %}",
                              "\n{% filter %}",
                              "\n{% filter upper %}",
                              "\n{% raw %}x",
                              "\n{# x",
                              "\n{{ 'a }}",
                              "\n{{ \"a }}",
                              "\n{{ ( }}",
                              "\n{{ ) }}",
                              "\n{{ [1, }}",
                              "\n{{ {1 } }}",
                              "\n{{ {'a': } }}",
                              "\n{{ a. }}",
                              "\n{{ a.'b' }}",
                              "\n{{ a[ }}",
                              "\n{{ a[1:2:3:4] }}",
                              "\n{{ a| }}",
                              "\n{{ a|1 }}",
                              "\n{{ a is }}",
                              "\n{{ a is not }}",
                              "\n{{ a if }}",
                              "\n{{ a if b else }}",
                              "\n{{ f(a b) }}",
                              "\n{{ f(a=) }}",
                              "\n{{ f(*) }}",
                              "\n{{ f(**a, **b) }}",
                              "\n{{ 1 + }}",
                              "\n{{ * 1 }}",
                              "\n{{ a ! b }}",
                              "\n{{ a & b }}",
                              "\n{{ a $ }}",
                              "\n{{ `a` }}",
                              "\n{{ not }}",
                              "\n{{ a not b }}",
                              "\n{{ a in }}",
                              "\n{{ 1 2 }}",
                              "\n{{ '\\x' }}",
                              "\n{{ '\\ud800' }}",
                              "\n{{ '\\N{DASH}' }}",
                              "\n{% break %}",
                              "\n{% continue %}",
                              "\n{% endif %}",
                              "\n{% if x %}{% endfor %}",
                              "\n{% block %}",
                              "\n{% with a %}",
                              "\n{% generation %}",
                              "\n{% nosuch %}",
                              "\n{% 'if' %}",
                              "\n{% for loop in x %}{% endfor %}",
                              "\n{% set true = 1 %}",
                              "\n{{ a }",
                              "\n{% if a }}",
                              "\n{{ a %}"};
  for (const char* source : kMalformed) {
    const auto parsed = Template::parse(source);
    ASSERT_FALSE(parsed) << source;
    EXPECT_THAT(parsed.error().message, StartsWith("line 2: ")) << source;
  }
  EXPECT_THAT(error_of("\xff"), StartsWith("line 1: "));
}

TEST(JinjaTemplate, nesting_of_the_source_is_bounded) {
  for (const auto& [open, close] : std::vector<std::pair<std::string, std::string>>{{"(", ")"},
                                                                                    {"[", "]"},
                                                                                    {"{1:", "}"},
                                                                                    {"-", ""},
                                                                                    {"not ", ""},
                                                                                    {"f(", ")"},
                                                                                    {"1 if ", ""},
                                                                                    {"1 if 1 else ", ""}}) {
    const std::string source = "{{ " + repeated(open, 5000) + "1" + repeated(close, 5000) + " }}";
    EXPECT_THAT(error_of(source), StartsWith("line 1: ")) << open;
  }
  for (const std::string op : {" + 1", " and 1", ".a", "[0]", "|upper", " ** 1", "()", " if 1", " is odd"}) {
    EXPECT_THAT(error_of("{{ 1" + repeated(op, 5000) + " }}"), StartsWith("line 1: ")) << op;
  }
  for (const std::string tag :
       {"if 1", "for i in x", "macro m()", "set x", "filter upper", "with", "generation", "block b"}) {
    EXPECT_THAT(error_of(repeated("{% " + tag + " %}", 2000)), HasSubstr("nested too deeply")) << tag;
  }
  // Length alone is no nesting.
  EXPECT_EQ(text_of("{{ 0" + repeated(" ~ 1", 5000) + " }}").size(), 5001u);
  EXPECT_EQ(text_of("{% if 0 %}" + repeated("{% elif 0 %}", 5000) + "{% else %}x{% endif %}"), "x");
  EXPECT_EQ(text_of("{{ (0" + repeated(", 1", 5000) + ")|length }}"), "5001");
}

TEST(JinjaTemplate, recursion_is_bounded) {
  EXPECT_EQ(error_of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
            "line 1: the template recurses too deeply");
  EXPECT_EQ(
      error_of("{% macro a() %}{{ b() }}{% endmacro %}\n{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}")
          .substr(8),
      "the template recurses too deeply");
  EXPECT_EQ(error_of("{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
            "line 1: the template recurses too deeply");
  EXPECT_EQ(
      text_of("{% macro m(n) %}{{ n }}{% if n %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}").size(),
      72u);
}

TEST(JinjaTemplate, hostile_sizes_are_refused) {
  Limits limits;
  limits.max_output_bytes = 1 << 20;
  const char* kLarge[] = {
      "{{ 'a' * 10 ** 9 }}",
      "{{ 10 ** 30 * 'ab' }}",
      "{{ [1] * 10 ** 9 }}",
      "{{ (1, 2) * 10 ** 30 }}",
      "{{ 'a'.center(10 ** 9) }}",
      "{{ 'a'.ljust(10 ** 12) }}",
      "{{ 'a'.zfill(10 ** 9) }}",
      "{{ 'a'|center(10 ** 9) }}",
      "{{ '%1000000000d' % 1 }}",
      "{{ '%*d' % (10 ** 9, 1) }}",
      "{{ '{:1000000000}'.format(1) }}",
      "{{ 'a\tb'.expandtabs(10 ** 9) }}",
      "{{ 'a'|indent(10 ** 9, true) }}",
      "{{ [1]|batch(10 ** 9, 0)|list }}",
      "{{ [1]|slice(10 ** 9)|list }}",
      "{{ [1]|tojson(indent=10 ** 9) }}",
      "{{ ('a' * 10 ** 5).replace('a', 'b' * 1000) }}",
      "{{ ('b' * 10 ** 5).join(range(100)|map('string')) }}",
      "{{ ('a' * 10 ** 5)|list }}",
      "{% set s = 'a' * 2 * 10 ** 5 %}{% for i in range(9) %}{{ s }}{% endfor %}",
      "{% set ns = namespace(s='a') %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"};
  for (const char* source : kLarge) {
    EXPECT_EQ(error_of(source, {}, limits), "line 1: a text or list would be larger than 1 MiB") << source;
  }
  EXPECT_THAT(error_of("{{ range(10 ** 9) }}"), HasSubstr("Range too big"));
  EXPECT_THAT(error_of("{{ '%.1000000000f' % 1 }}"), HasSubstr("precision too big"));
}

TEST(JinjaTemplate, live_memory_is_bounded) {
  Limits limits;
  limits.max_live_bytes = 1 << 20;
  EXPECT_EQ(error_of("{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l, i ~ "
                     "'x'] %}{% endfor %}"),
            "line 1: a value is nested deeper than 192 levels");
  EXPECT_EQ(
      error_of(
          "{% set ns = namespace(l=[1]) %}{% for i in range(30) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
          {}, limits),
      "line 1: the template's values take more than 1 MiB");
  EXPECT_EQ(error_of("{% set s = 'a' * 600000 %}{% set t = s ~ 'b' %}", {}, limits),
            "line 1: the template's values take more than 1 MiB");
  // What is let go does not count.
  EXPECT_EQ(render("{% for i in range(100) %}{% set s = 'a' * 100000 %}{% endfor %}x", {}, limits).value(),
            "x");
}

TEST(JinjaTemplate, steps_are_bounded) {
  Limits limits;
  limits.max_steps = 100'000;
  const char* kLong[] = {
      "{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}",
      "{% set s = 'a' * 100000 %}{% for a in range(1000) %}{% if s == s ~ '' %}{% endif %}{% endfor %}",
      "{% set s = 'a' * 100000 %}{% for a in range(1000) %}{% if 'b' in s %}{% endif %}{% endfor %}",
      "{% set l = range(10000)|list %}{% for a in range(1000) %}{% if -1 in l %}{% endif %}{% endfor %}",
      "{% set l = range(10000)|list %}{% for a in range(1000) %}{% set x = l|sort|list %}{% endfor %}",
  };
  for (const char* source : kLong) {
    EXPECT_EQ(error_of(source, {}, limits), "line 1: the template takes more than 100000 steps") << source;
  }
}

TEST(JinjaTemplate, values_that_hold_themselves_are_freed_and_refused) {
  // Under the address sanitizer a cycle left behind is a failure.
  EXPECT_EQ(text_of("{% set ns = namespace() %}{% set ns.a = ns %}{% set ns.l = [ns, {'k': ns}] %}x"), "x");
  EXPECT_THAT(error_of("{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns }}"), HasSubstr("holds itself"));
  EXPECT_EQ(text_of("{% for i in [1] %}{{ loop.changed(loop) }}{{ loop.changed([loop]) }}{% endfor %}"),
            "TrueTrue");
  EXPECT_EQ(
      text_of("{% set ns = namespace(p=none) %}{% for i in range(5000) %}{% set n = namespace(p=ns.p) %}"
              "{% set ns.p = n %}{% endfor %}{% set ns.m = ns.p.p.p is defined %}{{ ns.m }}"),
      "True");
  EXPECT_EQ(text_of("{% macro m() %}{{ n is defined }}{% endmacro %}{% set n = [m] %}{{ m() }}"), "True");
}

TEST(JinjaTemplate, deep_values_are_refused) {
  io::Json deep = 1;
  for (int i = 0; i < 100; ++i) deep = io::Json::array({deep});
  EXPECT_EQ(text_of("{{ x|string|length }}{{ x|tojson|length }}{{ x == x }}", {{"x", deep}}), "201201True");
  for (int i = 0; i < 150; ++i) deep = io::Json::array({deep});
  EXPECT_THAT(error_of("{{ x }}", {{"x", deep}}), HasSubstr("nested deeper than 192 levels"));
}

TEST(JinjaTemplate, searching_is_linear) {
  const Variables variables = {{"a", repeated("a", 400'000)}, {"b", repeated("a", 200'000) + "b"}};
  EXPECT_EQ(text_of("{{ b in a }}{{ a.find(b) }}{{ a.rfind(b) }}{{ a.count(b) }}{{ a.split(b)|length }}"
                    "{{ a.rsplit(b)|length }}{{ a.replace(b, '')|length }}",
                    variables),
            "False-1-1011400000");
}

}  // namespace
}  // namespace nemoforge::text::jinja
