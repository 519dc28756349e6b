"""The written-out template cases of make_template_cases.py."""

import pathlib

TEMPLATE_DIR = pathlib.Path(__file__).resolve().parent.parent / "data" / "templates"


def packaged_templates():
    """Mistral's chat templates, as the mistral-common package generates them for its tokenizers."""
    from mistral_common.integrations.chat_templates.chat_templates import generate_chat_template
    from mistral_common.tokens.tokenizers.base import TokenizerVersion

    for version, thinking in ((TokenizerVersion.v3, False), (TokenizerVersion.v7, False), (TokenizerVersion.v13, True)):
        yield f"mistral {version.value}", generate_chat_template(
            spm=version == TokenizerVersion.v3,
            tokenizer_version=version,
            image_support=False,
            audio_support=False,
            thinking_support=thinking,
            default_system_prompt=None,
            plain_thinking_support=False,
            use_special_token_variables=True,
            model_settings_fields=None,
            reasoning_effort_values=None,
            reasoning_effort_default=None,
        )


EXPRESSIONS = r"""
1 + 2 * 3 ** 2
-2 ** 2
2 ** 3 ** 2
2 ** -1
7 // 2
-7 // 2
7 % -3
-7 % 3
7.5 // 2
-7.5 % 2
1 / 3
10 / 5
1 / 0
1 // 0
1.0 % 0
1e308 * 10
0.1 + 0.2
1e16
1e15
123456789012345680.0
1.5e-5
0.0001
-0.0
100000000000000000000 + 1
2 ** 100
18446744073709551615
0x1F + 0b101 + 0o17
1_000_000
1_0.5_0
true + true
true and 1
0 or 'x'
none or false
not none
not not 1
'a' 'b' "c"
'a\tb\nc\\d\'e\"f\x41\u00e9\U0001F600\101\q'
'line \
continues'
'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1, 'b'] ~ missing
'a' + 1
1 + 'a'
'a' * 3
3 * 'ab'
'a' * -1
[1] * 2 + [3]
(1,) + (2,)
[1] + (2,)
()
(1,)
(1, 2)
[1, [2, [3, {}]], 'x"y', "it's", 'both\'"']
{'a': 1, 1: 'b', none: true, 1.5: [], (1, 2): {}}
{1: 'a', true: 'b', 1.0: 'c'}
{[]: 1}
{'a': 1, 'a': 2}
'\x00\x1f\x7f\xa0\u200b\ud7ff\ue000'|list
['\x00\x1f\x7f\xa0\u200b\u2028\U0001F600é']
missing
missing.attr
missing['a']
missing()
missing + 1
1 + missing
missing ~ 'x'
missing|length
missing|list
missing|int
missing|string
missing|upper
missing|tojson
missing|default('x')
missing|d
none|default('x')
none|default('x', true)
missing == missing
missing == none
missing in [1]
1 in missing
missing is sequence
missing is iterable
missing is callable
missing is string
missing is mapping
missing < 1
[missing]
{'a': missing}
person.missing
person.missing.deeper
person['missing'].deeper
none.x
none['x']
(none).x.y
number.x
words.append(1)
words.append
words.append is defined
person.pop('name')
person.update
'x'.__class__
'x'.__class__.__mro__
person.__class__
''['__class__']
person.items
odd_keys.items()
odd_keys['items']
odd_keys.keys
odd_keys['a b']
person.address.city
person['address']['city']
person.get('name')
person.get('zz')
person.get('zz', 1)
person.keys()
person.values()
person.items()
person|items|list
person|length
words[]
words[0]
words[-1]
words[10]
words['0']
words.0
words[1:]
words[::-1]
words[:100]
words[3:0:-1]
words[-100:2]
words[::0]
words['a':]
text[0]
text[-5:]
text[::-1]
text[100]
accents[0:8]
accents[::-1]
accents|length
accents[-3]
accents|upper
accents|lower
accents|title
accents|capitalize
'ΑΣ ΣΑΣ Σ ΑΣ.'|lower
'ǆ ŉ ﬁ'|upper
'ǆ ŉ ﬁ'|title
'ῼ'|lower
'Ⅷ'|lower
'ß'.upper()
'ß'.title()
'İ'|lower|length
'ﬃ'.capitalize()
'Аб Ва'.swapcase()
'五'.isnumeric()
'²'.isdigit()
'²'.isdecimal()
'٣'.isdecimal()
'é'.isalpha()
'_'.isalnum()
'ǅ'.isupper()
'ǅ'.istitle()
'\u3000\x85\x1c'.isspace()
'\u3000 a\x1c'.strip()
'a\u2028b\x0bc\x1cd\r\ne\rf\n'.splitlines()
'a\u2028b\r\n'.splitlines(true)
' a  b '.split()
' a  b '.split(' ')
'a,b,,c'.split(',')
'a,b,c'.split(',', 1)
'a,b,c'.rsplit(',', 1)
' a b  c '.split(none, 1)
' a b  c '.rsplit(none, 1)
'aaaa'.split('aa')
'aaa'.rsplit('aa')
'abc'.split('')
'abc'.split(1)
'aXbXc'.partition('X')
'aXbXc'.rpartition('X')
'abc'.partition('')
'abc'.find('c', -1)
'abc'.find('', 3)
'abc'.find('', 4)
'abc'.rfind('')
'abc'.count('', 1)
'日本語日本'.find('本', 2)
'日本語日本'.rfind('本')
'日本語'.index('語')
'日本語'.center(9, '＊')
'日本語'.ljust(5) ~ '|'
'日本語'|center(9) ~ '|'
'abc'.center(6, '-')
'abcd'.center(7, '-')
'ab'.center(5, '-')
'-5'.zfill(5)
'+é'.zfill(5)
'abc'.startswith('b', 1)
'abc'.endswith('b', 0, 2)
'abc'.startswith(1)
'abc'.startswith(('x', 'a'))
'abc'.replace('', '-')
'abc'.replace('', '-', 2)
'aaa'.replace('a', 'b', 0)
'abc'.replace('b')
','.join(['a', 1])
','.join(missing)
','.join({'a': 1, 'b': 2})
'x'.join('日本')
'abc'.removeprefix('ab')
'abc'.removesuffix('')
'a\tb'.expandtabs()
'{} {}'.format(1)
'{0} {1} {0}'.format('a', 'b')
'{} {0}'.format(1)
'{a.name} {a[age]}'.format(a=person)
'{:>{}}'.format('x', 5)
'{:{w}.{p}f}'.format(3.14159, w=8, p=2)
'{!r:>6}'.format('a')
'{{}}'.format()
'{'.format()
'}'.format()
'{:d}'.format(true)
'{}'.format(true)
'{:5}'.format(true)
'{:,}'.format(1234567)
'{:_x}'.format(1234567)
'{:.3}'.format(3.0)
'{:.1}'.format(10.0)
'{:.10}'.format(1234567.0)
'{:g}'.format(1e20)
'{:.2%}'.format(0.1234)
'{:e}'.format(12345)
'{:s}'.format(1)
'{:5}'.format([1])
'{}'.format([1, 'a'])
'{}'.format(none)
'{:5}'.format(none)
'%s and %s' % ('a', 1)
'%s' % [1]
'%s' % (1, 2)
'%d%%' % 3.9
'%5.1f|%-6d|%+d' % (3.14159, 42, 7)
'%(name)s is %(age)d' % person
'%(zz)s' % person
'x' % 1
'x' % {}
'x' % []
'%s' % missing
'%r' % 'a'
'%c%c' % ('a', 98)
'%x %X %o %#x' % (255, 255, 8, 255)
'%e' % 12345.678
'%g' % 0.00001
'%s %s'|format('a', 'b')
'%(a)s'|format(a=1)
'%s'|format(1, a=2)
1 < 2 < 3
1 < 2 > 3
1 == 1.0 == true
'a' < 'b'
'a' < 1
[1, 2] < [1, 3]
[1, 'a'] < [1, 2]
[1, 2] < [1, 2, 0]
(1, 2) == [1, 2]
{'a': 1} == {'a': 1.0}
none == none
none < 1
'é' > 'z'
1 in [1, 2]
1.0 in [1, 2]
'a' in 'abc'
'' in ''
1 in 'abc'
'name' in person
[1] in [[1]]
[1] in person
1 in none
1 not in [2]
not 1 in [2]
1 in range(3)
'a' if true
'a' if false
('a' if false) is undefined
('a' if false).x
'a' if none else 'b' if 0 else 'c'
1 is defined
x is defined and x
1 is odd
'a' is odd
2.0 is even
5 is divisibleby 2
5 is divisibleby(0)
1 is number
true is number
true is integer
1.0 is float
'a' is string
'a' is sequence
{} is sequence
{} is mapping
[] is iterable
1 is iterable
none is none
true is boolean
1 is true
true is true
'abc' is lower
'ABC' is upper
'1' is lower
1 is lower
none is not none
1 is eq 1
1 is sameas 1
[] is sameas []
'a' is in ['a']
'upper' is filter
'nosuch' is filter
'odd' is test
1 is nosuchtest
1|nosuchfilter
nosuchfunction()
1()
'a'()
person()
range(5)
range(5)|list
range(2, 10, 3)|list
range(5, 0, -2)|list
range(0)
range(3)[1]
range(10)[2:8:2]
range(10)[::-1]|list
range(3)|length
range(1000000)
range(1, 2, 0)
range('a')
range(3)|last
range(3)|sum
range(3)|reverse|list
dict(a=1, b=2)
dict({'a': 1}, b=2)
dict([('a', 1), ('b', 2)])
dict([1])
dict('ab')
dict()
namespace(a=1)
namespace({'b': 2}, a=1).b
namespace().zz
cycler('a', 'b').next()
joiner('|')() ~ 'x'
raise_exception('no ' ~ 'way')
raise_exception(1)
raise_exception()
strftime_now('%Y')
strftime_now('%d %b %Y %% %j')
strftime_now('')
-5|abs
(-5)|abs
(-5.5)|abs
'a'|abs
true|abs
[1, 2, 3, 4, 5]|batch(2)|list
[1, 2, 3, 4, 5]|batch(2, 'x')|list
[1, 2, 3, 4, 5]|slice(3)|list
[1, 2, 3, 4, 5]|slice(3, 'x')|list
[]|batch(2, 1)|list
[1]|slice(0)|list
'hELLO wORLD'|capitalize
'hELLO wORLD-foo (bar) {baz} [q] <z>'|title
"they're bill's"|title
"they're bill's".title()
'x'|center(5)
person|dictsort
{'b': 1, 'A': 3, 'c': 2}|dictsort
{'b': 1, 'A': 3, 'c': 2}|dictsort(true)
{'b': 1, 'A': 3, 'c': 2}|dictsort(false, 'value')
{'b': 1, 'A': 3}|dictsort(by='x')
{1: 2, 'a': 3}|dictsort
'<a href="x">\'&\'</a>'|escape
'<a>'|e|e
'<a>'|forceescape|forceescape
'<a>'|safe
('<a>'|safe) + '<b>'
'<b>' + ('<a>'|safe)
('<a>'|safe) ~ '<b>'
['<a>'|safe]
('a'|safe)|upper|string
'<p>a <b>b</b>\n &amp; &lt;c&gt; <!-- x --> &#39;&#x41;</p>'|striptags
'abc'|first
''|first
[]|first
{}|first
'abc'|last
[]|last
{'a': 1, 'b': 2}|last
5|first
'3.7'|float
'abc'|float
'abc'|float(1)
' 1e3 '|float
'1_0.5'|float
'inf'|float
'-inf'|float
'nan'|float
none|float
'0x10'|float
'42'|int
'42.9'|int
' -42 '|int
'4_2'|int
'0x1f'|int(base=16)
'0x1f'|int
'0b11'|int(0, 2)
'z'|int(5)
'z'|int(0, 36)
'1e3'|int
'inf'|int
none|int
true|int
3.99|int
-3.99|int
1e30|int
[]|int
100|filesizeformat
1|filesizeformat
1000|filesizeformat
1024|filesizeformat(true)
1500000|filesizeformat
'1e12'|filesizeformat
people|groupby('city')|list
people|groupby('age')
people|groupby('role.level', default=0)
people|groupby('city', case_sensitive=true)
(people|groupby('age'))[0].grouper
(people|groupby('age'))[0].list|length
'a\nb\n\nc'|indent
'a\nb\n\nc\n'|indent(2)
'a\nb'|indent(2, true)
'a\n\nb'|indent(2, true, true)
'a\nb'|indent('--')
''|indent
1|indent
{'a': 1}|items|list
[1]|items
[1, 2]|join
[1, none, 'a', 2.5]|join('-')
people|join(', ', attribute='name')
people|join(attribute='age')
{'a': 1}|join
'abc'|join('.')
5|join
words|map('upper')|join(',')
words|map('replace', 'a', 'o')|list
people|map(attribute='name')|list
people|map(attribute='role')|list
people|map(attribute='role.level')|list
people|map(attribute='role.level', default='none')|list
[[1, 2], [3, 4]]|map(attribute=0)|list
[[1, 2], [3, 4]]|map('first')|list
[[1, 2], [3, 4]]|map('sum')|sum
words|map('nosuch')|list
words|map()|list
words|map('join', foo=1)|list
words|map|list
[3, 1, 2]|max
[3, 1, 2]|min
words|max
words|min
words|min(case_sensitive=true)
people|max(attribute='age')
[]|max
[1, 'a']|max
[0, 1, '', 'a', none]|select|list
[0, 1, '', 'a', none]|reject|list
[1, 2, 3]|select('odd')|list
[1, 2, 3]|select('>', 1)|list
[1, 2, 3]|select('nosuch')|list
[1, 2, 3]|reject('divisibleby', 3)|list
people|selectattr('role')|list
people|selectattr('age', 'equalto', 36)|map(attribute='name')|list
people|selectattr('name', 'in', ['Ada', 'Cy'])|list|length
people|rejectattr('age', '<', 30)|list|length
people|selectattr()|list
people|selectattr('role.level', 'eq', 3)|map(attribute='name')|first
people|selectattr('age', 'eq', 36)|length
(people|selectattr('age', 'eq', 36))[0]
(people|map(attribute='name')) is sequence
(people|map(attribute='name')) is iterable
people|map(attribute='name')|first
people|map(attribute='name')|last
missing|map('upper')|list
none|map('upper')|list
''|select|list
'Hello'|replace('l', 'L')
'Hello'|replace('l', 'L', 1)
5|replace(5, 6)
'Hello'|reverse
[1, 2]|reverse|list
{'a': 1}|reverse|list
5|reverse
2.5|round
3.5|round
-2.5|round
0.5|round
42.55|round(1)
2.675|round(2)
42.55|round(1, 'floor')
42.45|round(1, 'ceil')
42|round
42|round(-1)
45|round(-1)
55|round(-1)
1234.5|round(-2)
1250.0|round(-2)
4.0|round(-1)
6.0|round(-1)
2.5|round|int
2.5|round(method='floor')
2.5|round(method='up')
'a'|round
true|round
1e300|round(2)
[3, 1, 2]|sort
words|sort
words|sort(case_sensitive=true)
words|sort(reverse=true)
people|sort(attribute='city')|map(attribute='name')|list
people|sort(attribute='age,name')|map(attribute='name')|list
people|sort(attribute='age', reverse=true)|map(attribute='name')|list
[1, 'a']|sort
'hello'|sort
{'b': 1, 'a': 2}|sort
[none, none]|sort
[missing, missing]|sort|length
[[2, 'b'], [1, 'c'], [2, 'a']]|sort
1|string
none|string
[1, 'a']|string
[1, 2]|sum
[1, 2.5]|sum
['a', 'b']|sum
[]|sum
[[1], [2]]|sum(start=[])
people|sum(attribute='age')
[1, 2]|sum(start=10)
[true, true]|sum
person|tojson
person|tojson(indent=2)
person|tojson(2)
mixed|tojson(indent=1)
mixed|tojson(indent='--')
person|tojson(sort_keys=true)
person|tojson(separators=(',', ':'))
person|tojson(indent=0)
accents|tojson
accents|tojson(ensure_ascii=true)
'<b>&\'"\\/\x00\x1f\x7f\u2028\b\f\n\r\t'|tojson
'\x7f\U0001F600'|tojson(ensure_ascii=true)
1e22|tojson
('nan'|float)|tojson
('-inf'|float)|tojson
{1: 2, none: 3, true: 4, 1.5: 5}|tojson
{(1, 2): 3}|tojson
{1: 2, 'a': 3}|tojson(sort_keys=true)
(1, 2)|tojson
[]|tojson(indent=2)
{'a': {}, 'b': []}|tojson(indent=2)
range(3)|tojson
person.items()|tojson
'  a '|trim
'xxaxx'|trim('x')
5|trim
'foo bar baz qux'|truncate(9)
'foo bar baz qux'|truncate(9, true)
'foo bar baz qux'|truncate(11)
'foo bar baz qux'|truncate(11, false, '...', 0)
'foo bar'|truncate(2)
'日本語日本語日本語日本語'|truncate(5, true, '…', 0)
[1, 2]|truncate(5)
['a', 'A', 'b']|unique|list
['a', 'A', 'b']|unique(true)|list
people|unique(attribute='age')|map(attribute='name')|list
[1, 1.0, true, 2]|unique|list
[[1]]|unique|list
'a b/c?d=é&f'|urlencode
{'a b': 1, 'c': 'd/e'}|urlencode
[('a', 1), ('b', 2)]|urlencode
5|urlencode
'foo bar, baz-qux ünï_x'|wordcount
{'class': 'a', 'id': none, 'x': '<1>'}|xmlattr
{'class': 'a'}|xmlattr(false)
{'a b': 1}|xmlattr
person|attr('name')
person|attr('items') is callable
'x'|attr('upper')()
words|length()
1|default
text|default(1, 2, 3)
text|upper(1)
text|nosuch.dotted
text.upper().lower().title()
text.upper is defined
text.upper()[0:3]|lower
(text|upper).lower()
[1, 2, 3][1]
{'a': {'b': 1}}.a.b
{'a': [1, {'b': 2}]}['a'][1].b
'abc'[1]|upper
-1|abs + 2
1 if 1 else 2 + 3
'a' in 'abc' and 'b' not in 'xyz'
1 + 1 is even
[1, 2] is sequence and 'x' is string
(1, 2)[0]
(1, 2, 3)[1:]
[1, 2, 3].index(2)
[1, 2, 3].index(9)
[1, 1].count(1)
(1, 2).index(2)
1.5.is_integer()
(2.0).is_integer()
text|replace('o', 0)|upper|list|length
namespace(a=[1, {'b': none}])
[namespace(a=1)]
words.copy()
person.copy()
text == text and words == words
'%s' % namespace(a=1)
[1,2,3,]
(1,2,)
{'a': 1,}
text.format
words|join(' ')|title|replace(' ', '')
['a', 'b']|map('upper')|map('lower')|list
[*words]
foo(*words)
dict(**person)
dict(**{'a': 1}, b=2)
dict(a=1, **{'a': 2})
'{} {}'.format(*words)
'{a}'.format(**{'a': 1})
range(*[1, 4])|list
'a' is eq('a')
('a') is ('a')
missing is defined or missing is undefined
loop
super
caller
varargs
kwargs
""".strip().split("\n")

# A line of the list that ends in a backslash goes on in the next.
EXPRESSIONS = [e for e in "\n".join(EXPRESSIONS).replace("\\\n", "\x01").split("\n")]
EXPRESSIONS = [e.replace("\x01", "\\\n") for e in EXPRESSIONS]

STATEMENTS = [
    ("set", "{% set a = 1 %}{{ a }}{% set a, b = 2, 3 %}{{ a }}{{ b }}{% set (c, d) = [4, 5] %}{{ c }}{{ d }}", {}),
    ("set tuple", "{% set a = 1, 2 %}{{ a }}{% set a, = [7] %}{{ a }}", {}),
    ("set unpack mismatch", "{% set a, b = [1] %}", {}),
    ("set unpack too many", "{% set a, b = [1, 2, 3] %}", {}),
    ("set unpack number", "{% set a, b = 5 %}", {}),
    ("set unpack string", "{% set a, b = 'xy' %}{{ b }}{{ a }}", {}),
    ("set unpack undefined", "{% set a, b = missing %}", {}),
    ("nested unpack", "{% for (a, b), c in [[[1, 2], 3]] %}{{ a }}{{ b }}{{ c }}{% endfor %}", {}),
    ("set block", "{% set a %}x{{ 1 }}\ny{% endset %}[{{ a }}]{% set b | upper | replace('X', 'Q') %}x{% endset %}{{ b }}", {}),
    ("set block is str", "{% set a %}{% endset %}{{ a is string }}{{ a|length }}", {}),
    ("set block scope", "{% set a %}{% set z = 1 %}{{ z }}{% endset %}{{ a }}{{ z is defined }}", {}),
    ("set in if", "{% if yes %}{% set a = 1 %}{% endif %}{{ a }}", {}),
    ("set in for stays inside", "{% set a = 0 %}{% for i in numbers %}{% set a = a + i %}{{ a }}{% endfor %}{{ a }}", {}),
    ("set hides the variable", "{% set text = text ~ '!' %}{{ text }}", {}),
    ("namespace", "{% set ns = namespace(n=0) %}{% for i in numbers %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}{% set ns.new = 'x' %}{{ ns.new }}{{ ns.none_such is defined }}", {}),
    ("namespace tuple", "{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}", {}),
    ("namespace block", "{% set ns = namespace() %}{% set ns.a %}hi{% endset %}{{ ns.a }}", {}),
    ("set attribute of a dict", "{% set person.name = 1 %}", {}),
    ("set attribute of missing", "{% set nosuch.name = 1 %}", {}),
    ("set subscript", "{% set person['name'] = 1 %}", {}),
    ("set constant", "{% set true = 1 %}", {}),
    ("set number", "{% set 1 = 1 %}", {}),
    ("for", "{% for i in numbers %}{{ i }},{% endfor %}", {}),
    ("for dict", "{% for k in person %}{{ k }},{% endfor %}{% for k, v in person.items() %}{{ k }}={{ v }};{% endfor %}", {}),
    ("for string", "{% for c in accents %}{{ c }}.{% endfor %}", {}),
    ("for else", "{% for i in none_at_all %}x{% else %}empty{% endfor %}{% for i in numbers %}{{ i }}{% else %}empty{% endfor %}", {}),
    ("for undefined", "{% for i in missing %}x{% else %}none{% endfor %}", {}),
    ("for number", "{% for i in 5 %}x{% endfor %}", {}),
    ("for none", "{% for i in none %}x{% endfor %}", {}),
    ("for target with trailing comma", "{% for k, in nested %}{{ k }}{% endfor %}", {}),
    ("for tuple and recursive", "{% for i in 1, recursive %}{{ i }},{% endfor %}", {}),
    ("for tuple literal", "{% for i in 1, 2, 3 %}{{ i }}{% endfor %}", {}),
    ("for filter", "{% for i in numbers if i > 1 %}{{ loop.index }}/{{ loop.length }}:{{ i }} {% else %}none{% endfor %}", {}),
    ("for filter without match", "{% for i in numbers if i > 9 %}x{% else %}none{% endfor %}", {}),
    ("for filter is lazy", "{% set ns = namespace(go=true) %}{% for i in range(9) if ns.go %}{{ i }}{% if i == 3 %}{% set ns.go = false %}{% endif %}{% endfor %}", {}),
    ("for filter with lookahead", "{% set ns = namespace(go=true) %}{% for i in range(9) if ns.go %}{{ i }}{{ loop.last }}{% if i == 3 %}{% set ns.go = false %}{% endif %}{% endfor %}", {}),
    ("loop variables", "{% for i in words %}{{ loop.index }} {{ loop.index0 }} {{ loop.revindex }} {{ loop.revindex0 }} {{ loop.first }} {{ loop.last }} {{ loop.length }} {{ loop.depth }} {{ loop.depth0 }} {{ loop.previtem }} {{ loop.nextitem }}|{% endfor %}", {}),
    ("loop of filtered", "{% for i in words if i != 'Apple' %}{{ loop.last }} {{ loop.nextitem }} {{ loop.revindex }} {{ loop.previtem }} {{ loop.length }}|{% endfor %}", {}),
    ("loop edge items are undefined", "{% for i in numbers %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}", {}),
    ("previtem attribute at the edge", "{% for i in people %}{{ loop.previtem.name }}{% endfor %}", {}),
    ("loop.cycle", "{% for i in words %}{{ loop.cycle('a', 'b', 'c') }}{% endfor %}", {}),
    ("loop.cycle empty", "{% for i in words %}{{ loop.cycle() }}{% endfor %}", {}),
    ("loop.changed", "{% for p in people %}{{ loop.changed(p.age) }}{% endfor %}", {}),
    ("loop repr", "{% for i in numbers %}{{ loop }}{% endfor %}", {}),
    ("loop of generator", "{% for p in people|selectattr('age', 'eq', 36) %}{{ loop.index }}{{ loop.last }}{{ loop.length }}{{ p.name }}{% endfor %}", {}),
    ("generator is consumed", "{% set g = words|map('upper') %}{{ g|list }}{{ g|list }}{{ g|list|length }}", {}),
    ("generator in loop with break", "{% set g = numbers|map('string') %}{% for x in g %}{{ x }}{% if loop.index == 2 %}{% break %}{% endif %}{% endfor %}{{ g|list }}", {}),
    ("generator first", "{% set g = numbers|map('string') %}{{ g|first }}{{ g|first }}{{ g|join(',') }}", {}),
    ("in consumes", "{% set g = numbers|select %}{{ 1 in g }}{{ g|list }}", {}),
    ("loop outside", "{{ loop is defined }}{% for i in numbers %}{% endfor %}{{ loop is defined }}", {}),
    ("nested loops", "{% for row in nested %}{{ loop.index }}:{% for x in row %}{{ loop.index }}{{ x }}{% if not loop.last %},{% endif %}{% endfor %};{% endfor %}", {}),
    ("outer loop by set", "{% for row in nested %}{% set outer = loop %}{% for x in row %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}", {}),
    ("loop assigned", "{% for i in numbers %}{% set loop = 1 %}{% endfor %}", {}),
    ("for target loop", "{% for loop in numbers %}{% endfor %}", {}),
    ("break", "{% for i in range(10) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", {}),
    ("continue", "{% for i in range(5) %}{% if i is odd %}{% continue %}{% endif %}{{ i }}{% endfor %}", {}),
    ("break and else", "{% for i in range(3) %}{% break %}{% else %}else{% endfor %}", {}),
    ("late break and else", "{% for i in range(3) %}{{ i }}{% if i == 1 %}{% break %}{% endif %}{% else %}else{% endfor %}", {}),
    ("continue and else", "{% for i in range(3) %}{% continue %}{% else %}else{% endfor %}", {}),
    ("break in set block", "{% for i in range(3) %}a{% set x %}b{% break %}{% endset %}c{% endfor %}d", {}),
    ("break outside", "a{% break %}b", {}),
    ("continue in macro in loop", "{% for i in numbers %}{% macro m() %}{% continue %}{% endmacro %}{{ m() }}{% endfor %}", {}),
    ("break in nested", "{% for i in range(3) %}{% for j in range(3) %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}", {}),
    ("recursive", "{% for n in tree recursive %}{{ loop.depth }}{{ n.v }}{% if n.c %}[{{ loop(n.c) }}]{% endif %}{% endfor %}", {"tree": [{"v": 1, "c": [{"v": 2}, {"v": 3, "c": [{"v": 4}]}]}, {"v": 5}]}),
    ("recursive without mark", "{% for n in nested %}{{ loop(n) }}{% endfor %}", {}),
    ("if", "{% if no %}a{% elif nothing %}b{% elif number == 42 %}c{% else %}d{% endif %}", {}),
    ("if tuple", "{% if 1, 2 %}a{% endif %}", {}),
    ("if colon", "{% if yes: %}a{% else: %}b{% endif %}", {}),
    ("macro", "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(c=5, a=4) }} {{ m() }}", {}),
    ("macro too many", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", {}),
    ("macro unknown keyword", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}", {}),
    ("macro varargs", "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}{{ m() }}", {}),
    ("macro default sees parameters", "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}", {}),
    ("macro default sees globals", "{% macro m(a=text) %}{{ a }}{% endmacro %}{{ m() }}", {}),
    ("macro missing argument", "{% macro m(a) %}{{ a is defined }}{{ a.b }}{% endmacro %}{{ m() }}", {}),
    ("macro sees later set", "{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% set x = 1 %}{{ m() }}", {}),
    ("macro scope is its own", "{% macro m() %}{% set x = 5 %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}{{ x }}", {}),
    ("macro does not see loop variables of its caller", "{% macro m() %}{{ i is defined }}{% endmacro %}{% for i in numbers %}{{ m() }}{% endfor %}", {}),
    ("macro in loop sees loop variables", "{% for i in numbers %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", {}),
    ("macro recursion", "{% macro f(n) %}{% if n > 1 %}{{ n }}*{{ f(n - 1) }}{% else %}1{% endif %}{% endmacro %}{{ f(5) }}", {}),
    ("macro attributes", "{% macro m(a, b=1) %}{{ caller }}{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.catch_varargs }}{{ m.caller }}", {}),
    ("macro repr", "{% macro m() %}{% endmacro %}{{ m }}{{ [m] }}", {}),
    ("macro is callable", "{% macro m() %}{% endmacro %}{{ m is callable }}{{ m is defined }}{{ m() is string }}", {}),
    ("macro before definition", "{{ m is defined }}{% macro m() %}x{% endmacro %}{{ m() }}", {}),
    ("macro in if", "{% if yes %}{% macro m() %}x{% endmacro %}{% endif %}{{ m() }}", {}),
    ("macro default order", "{% macro m(a=1, b) %}{% endmacro %}", {}),
    ("macro result filters", "{% macro m(x) %}  <{{ x }}>  {% endmacro %}{{ m('a')|trim|upper }}", {}),
    ("call", "{% macro m(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call m('b') %}body {{ number }}{% endcall %}", {}),
    ("call with arguments", "{% macro m() %}{% for i in [1, 2] %}{{ caller(i, 'x') }}{% endfor %}{% endmacro %}{% call(a, b='y') m() %}{{ a }}{{ b }};{% endcall %}", {}),
    ("call of macro without caller", "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}", {}),
    ("caller is undefined", "{% macro m() %}{{ caller is defined }}{{ caller }}{% endmacro %}{{ m() }}", {}),
    ("caller called without call", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", {}),
    ("call of no call", "{% call number %}x{% endcall %}", {}),
    ("filter block", "{% filter upper|replace('X', '-') %}ax{{ text }}{% endfilter %}", {}),
    ("filter block scope", "{% filter upper %}{% set z = 1 %}{{ z }}{% endfilter %}{{ z is defined }}", {}),
    ("with", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}", {}),
    ("with sees the outside", "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", {}),
    ("with empty", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}", {}),
    ("block", "a{% block b %}{{ text }}{% set q = 1 %}{% endblock b %}{{ q is defined }}", {}),
    ("generation", "a{% generation %}{{ text }}{% set q = 1 %}{% endgeneration %}{{ q is defined }}", {}),
    ("generation in loop", "{% for m in people %}{% generation %}{{ m.name }}{{ loop.index }}{% endgeneration %}{% endfor %}", {}),
    ("print", "{% print text %}{% print 1, 2 %}", {}),
    ("raw", "{% raw %}{{ x }}{% if %}{# c #}{% endraw %}", {}),
    ("raw newline", "{% raw %}\n x\n{% endraw %}\ny", {}),
    ("raw strip", "a \n {%- raw -%} \n x \n {%- endraw -%} \n b", {}),
    ("raw without end", "{% raw %}x", {}),
    ("comment", "a{# {{ x }} {% if %} #}b{# multi\nline #}\nc{#- x -#} d", {}),
    ("comment without end", "a{# b", {}),
    ("comment at the end", "a{#", {}),
    ("raw at the end", "a{% raw %}", {}),
    ("dict of undefined", "{{ dict(missing) }}", {}),
    ("sort by undefined", "{{ [2, 1]|sort(reverse=missing) }}", {}),
    ("ascii", "{{ '%a' % 'é👍' }}{{ '{!a}'.format('é') }}", {}),
    ("unknown tag", "{% nosuch %}", {}),
    ("do is not there", "{% do words.append(1) %}", {}),
    ("trans is not there", "{% trans %}x{% endtrans %}", {}),
    ("endif alone", "{% endif %}", {}),
    ("if without end", "{% if yes %}x", {}),
    ("for without end", "{% for i in numbers %}x", {}),
    ("wrong end", "{% if yes %}x{% endfor %}", {}),
    ("else alone", "{% else %}", {}),
    ("empty expression", "{{ }}", {}),
    ("empty tag", "{% %}", {}),
    ("unclosed print", "{{ text", {}),
    ("unclosed tag", "{% if yes", {}),
    ("unclosed string", "{{ 'abc }}", {}),
    ("unbalanced", "{{ (1 + 2 }}", {}),
    ("unbalanced close", "{{ 1) }}", {}),
    ("wrong bracket", "{{ [1) }}", {}),
    ("bad char", "{{ 1 @ 2 }}", {}),
    ("bad escape", "{{ '\\x1' }}", {}),
    ("two operands", "{{ 1 2 }}", {}),
    ("chained is", "{{ 1 is odd is even }}", {}),
    ("unknown filter in untaken if", "{% if no %}{{ 1|nosuch }}{% endif %}ok", {}),
    ("unknown filter in taken if", "{% if yes %}{{ 1|nosuch }}{% endif %}ok", {}),
    ("unknown test in untaken if", "{% if no and 1 is nosuch %}x{% endif %}ok", {}),
    ("unknown filter in untaken conditional", "{{ (1|nosuch) if no else 2 }}", {}),
    ("unknown filter in for in if", "{% if no %}{% for i in numbers %}{{ i|nosuch }}{% endfor %}{% endif %}ok", {}),
    ("unknown filter in uncalled macro", "{% macro m() %}{{ 1|nosuch }}{% endmacro %}ok", {}),
    ("arguments after spread", "{{ dict(*[], 1) }}", {}),
    ("positional after keyword", "{{ dict(a=1, 2) }}", {}),
    ("repeated keyword", "{{ dict(a=1, a=2) }}", {}),
    ("trailing newline", "a\n", {}),
    ("trailing newlines", "a\n\n", {}),
    ("carriage returns", "a\r\nb\rc\r\n", {}),
    ("carriage return in string", "{{ 'a\r\nb' }}", {}),
    ("only newline", "\n", {}),
    ("empty", "", {}),
    ("trim_blocks", "{% if yes %}\nx\n{% endif %}\ny\n", {}),
    ("trim_blocks takes one newline", "{% if yes %}\n\nx{% endif %}", {}),
    ("print keeps newline", "{{ text }}\n{{ text }}\n\n", {}),
    ("lstrip_blocks", "  {% if yes %}\n  x\n\t {% endif %}\n  y", {}),
    ("lstrip_blocks not after text", "x  {% if yes %}y{% endif %}", {}),
    ("lstrip_blocks plus", "  {%+ if yes %}y{% endif %}", {}),
    ("trim plus", "{% if yes +%}\ny{% endif %}", {}),
    ("lstrip comment", "  {# c #}\nx", {}),
    ("lstrip after newline in tag", "{% if yes\n%}  {% endif %}x", {}),
    ("minus", "a \n {%- if yes -%} \n b \n {%- endif -%} \n c", {}),
    ("print minus", "a \n {{- text -}} \n b", {}),
    ("minus and unicode space", "a\u00a0\u2003{{- text -}}\u3000b", {}),
    ("minus in expression", "{{ 1 -}} \n{{- 2 }}{{ -1 }}{{-1}}", {}),
    ("dict in print", "{{ {'a': 1} }}{{ {'a': {'b': 2}}}}", {}),
    ("braces in text", "a { b } c {d} {", {}),
    ("single brace at end", "x{", {}),
    ("set with dict end", "{% set d = {'a': {}} %}{{ d }}", {}),
    ("percent in block", "{% set a = 5 % 3 %}{{ a }}", {}),
    ("line numbers do not matter", "\n\n\n{{ missing.x }}", {}),
    ("unicode names", "{% set größe = 3 %}{{ größe }}{% set 日本 = 4 %}{{ 日本 }}", {}),
    ("name shadows global", "{% set range = 5 %}{{ range }}", {}),
    ("variable shadows global", "{{ dict }}", {"dict": "mine"}),
    ("keyword as attribute", "{{ a.if }}{{ a.for }}{{ a.in }}{{ a.not }}", {"a": {"if": 1, "for": 2, "in": 3, "not": 4}}),
    ("keyword as keyword argument", "{{ dict(if=1, class=2) }}", {}),
    ("deep dict", "{{ d.a.b.c[0].d }}", {"d": {"a": {"b": {"c": [{"d": "x"}]}}}}),
    ("large integers", "{{ a }} {{ a + 1 }} {{ a|tojson }}", {"a": 18446744073709551615}),
    ("cycler", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{{ c.reset() }}{{ c.next() }}", {}),
    ("cycler empty", "{{ cycler() }}", {}),
    ("joiner", "{% set j = joiner() %}{% for i in numbers %}{{ j() }}{{ i }}{% endfor %}", {}),
    ("include", "{% include 'x' %}", {}),
    ("import", "{% import 'x' as y %}", {}),
    ("from", "{% from 'x' import y %}", {}),
    ("extends", "{% extends 'x' %}", {}),
    ("raise in branch", "{% if number == 42 %}{{ raise_exception('no: ' ~ text) }}{% endif %}", {}),
    ("alternation check", "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{{ m.role }}{% endfor %}", {"messages": [{"role": "user"}, {"role": "user"}]}),
    ("many keys", "{{ d.k77 }}{{ d|length }}{{ 'k199' in d }}{{ 'k200' in d }}{{ (d|dictsort)[0] }}", {"d": {f"k{i}": i for i in range(200)}}),
    ("sort many", "{{ l|sort }}{{ l|unique|list }}{{ l|sort(reverse=true) }}", {"l": [(i * 7919) % 101 for i in range(150)]}),
    ("stable sort", "{{ l|sort(attribute='k') }}{{ l|sort(attribute='k', reverse=true) }}", {"l": [{"k": i % 3, "i": i} for i in range(20)]}),
    ("tool arguments", "{% for k, v in a|items %}<{{ k }}>{{ v|tojson if v is mapping or (v is sequence and v is not string) else v|string }}</{{ k }}>{% endfor %}", {"a": {"s": "x", "i": 3, "f": 1.0, "t": True, "n": None, "l": [1, "é"], "o": {}}}),
    ("strip chain", "{{ m.content.split('</think>')[-1].lstrip('\\n') }}|{{ m.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') }}", {"m": {"content": "<think>\nwhy\n</think>\n\nbecause"}}),
    ("reverse slice loop", "{% for m in people[::-1] %}{{ m.name }}{% endfor %}", {}),
    ("last user index", "{% set ns = namespace(i=-1) %}{% for m in l %}{% if m == 'u' %}{% set ns.i = loop.index0 %}{% endif %}{% endfor %}{{ ns.i }}", {"l": ["u", "a", "u", "a"]}),
    ("messages slice", "{% set l = l[1:] if l[0] == 's' else l %}{{ l }}", {"l": ["s", "u"]}),
    ("content parts", "{% for p in c %}{% if p.type == 'text' %}{{ p.text }}{% elif p['type'] == 'image' %}<img>{% endif %}{% endfor %}", {"c": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]}),
]
