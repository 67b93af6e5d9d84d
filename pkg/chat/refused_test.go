package chat

// refusedTemplates are those of testdata/expressions.json that are refused by name.
const refusedTemplates = `
{{ d.items }}
{{ d.get }}
{{ 'straße'.upper() }}
{{ 'ΑΣ'.lower() }}
{{ '{:>5}'.format(1) }}
{{ '{!r}'.format('a') }}
{{ '{0.x}'.format(1) }}
{{ '%5d' % 3 }}
{{ {'a': 1}.fromkeys is defined }}
{{ 'a'.__class__ is defined }}
{{ ''.__class__.__mro__ }}
{{ l.__len__() }}
{{ d.__class__ }}
{{ '1_0'|int }}
{{ l|reverse }}
{{ names|map }}
{{ l|map }}
{{ ('<'|safe).strip() }}
{{ s|wordcount }}
{{ s|truncate(5) }}
{{ l|random }}
{{ 1 is sameas 1 }}
{{ n is filter }}
{{ 'upper' is filter }}
{{ cycler('a') }}
{{ lipsum() }}
{{ strftime_now('%Q') }}
{{ strftime_now('%U') }}
{{ strftime_now('%s %f%z%Z.') }}
{{ self is defined }}
{{ s.strip.x }}
{% macro m() %}{% endmacro %}{{ m.name }}
{% include 'x' %}
{% import 'x' as y %}
{% extends 'x' %}
{% block a %}x{% endblock %}
{% for a, b in people|groupby('age') %}{{ a }}{% endfor %}
{% for x in l recursive %}{{ x }}{% endfor %}
{% autoescape true %}{{ s }}{% endautoescape %}
`
