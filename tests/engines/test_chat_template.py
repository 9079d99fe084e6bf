"""ChatTemplate: what published templates ask for, files, refusals."""

import json
import re
from pathlib import Path

import pytest

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Message
from stepcredit.engines.chat_template import ChatTemplate

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "chat_templates"
PLAIN = "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token }}{% endfor %}"
USER = [Message("user", "1 < 2 & 'x'")]


def test_tokens_and_messages_are_rendered_unescaped():
    assert ChatTemplate(PLAIN, "^", "$").render(USER, add_generation_prompt=True) == "^<user>1 < 2 & 'x'$"


def test_blocks_are_trimmed_and_json_is_not_escaped_for_html():
    source = "{% if true %}\n  {% set ns = namespace(a=1) %}\n{{ {'é': '<'} | tojson }}{{ ns.a }}\n{% endif %}\n"
    assert ChatTemplate(source).render(USER, add_generation_prompt=False) == '{"é": "<"}1\n'


def test_loop_controls_and_the_date_are_there():
    source = "{% for m in messages %}{% break %}{% endfor %}{{ strftime_now('%Y') }}"
    assert re.fullmatch(r"\d{4}", ChatTemplate(source).render(USER, add_generation_prompt=False))


def test_variables_reach_the_template():
    template = ChatTemplate("{{ 'on' if enable_thinking else 'off' }}", variables={"enable_thinking": True})
    assert template.render(USER, add_generation_prompt=False) == "on"
    assert template.fingerprint != ChatTemplate("{{ 'on' if enable_thinking else 'off' }}").fingerprint


def test_what_the_template_refuses_is_a_usage_error():
    with pytest.raises(UsageError, match="cannot render messages of user: no users here"):
        ChatTemplate("{{ raise_exception('no users here') }}").render(USER, add_generation_prompt=False)


def test_the_sandbox_holds():
    with pytest.raises(UsageError, match="unsafe"):
        ChatTemplate("{{ ''.__class__.__mro__ }}").render(USER, add_generation_prompt=False)


def test_a_broken_template_is_refused_at_once():
    with pytest.raises(UsageError, match="is no Jinja template"):
        ChatTemplate("{% if %}")


def test_load_reads_the_config_and_prefers_the_file(tmp_path):
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": PLAIN}]
    config = {"bos_token": {"content": "^"}, "eos_token": "$", "chat_template": named}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    template = ChatTemplate.load(tmp_path)
    assert (template.source, template.bos, template.eos) == (PLAIN, "^", "$")
    (tmp_path / "chat_template.jinja").write_text("file", encoding="utf-8")
    assert ChatTemplate.load(tmp_path).render(USER, add_generation_prompt=False) == "file"


@pytest.mark.parametrize(
    ("config", "reason"), [("{}", "has no chat template"), ("[]", "is not a JSON object, but list"), ("{", "cannot be")]
)
def test_load_says_what_is_missing(tmp_path, config, reason):
    (tmp_path / "tokenizer_config.json").write_text(config, encoding="utf-8")
    with pytest.raises(UsageError, match=reason):
        ChatTemplate.load(tmp_path)


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data/chat_templates")
def test_published_templates_render_a_user_message():
    for file in sorted(DATA.glob("*.jinja")):
        text = ChatTemplate(file.read_text(encoding="utf-8"), "<bos>", "<eos>").render(USER, add_generation_prompt=True)
        assert text.count(USER[0].content) == 1, file.name
