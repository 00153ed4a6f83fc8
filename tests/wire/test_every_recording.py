"""Every recorded exchange, of every host: which format's tests hold it to the laws, or why none does."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from antiphon.formats import json
from antiphon.formats.responses import Responses
from tests import recordings

FORMATS = {
    "openai-chat": r"chat/completions",
    "openai-responses": r"/responses(\?|$)",
    "anthropic": r"/v1/messages(/count_tokens)?(\?|$)",
    "gemini": r":(streamG|g)enerateContent|:countTokens",
    "bedrock": r"/converse(-stream)?$|/count-tokens$",
    "cohere": r"/v2/chat$",
    "embeddings": r"[Ee]mbed",
    "counts": r"/responses/input_tokens$",
}
"""By what their URLs hold."""

REST = {
    r"/v1/files/|/vector_stores|/fileSearchStores|/cachedContents": "uploads and stores of files",
    r"/v1/conversations$": "state that the provider keeps",
    r"/v1/responses/resp_": "an answer made in the background, asked for later",
    r"/v1/responses/compact$": "compaction, which no other provider has",
    r"/v1/tokenize$": "the tokens of a text, without a conversation",
    r"/realtime/": "WebRTC sessions",
    r"application-inference-profile.+/invoke$": "embeddings under a name that does not tell whose they are",
}
"""What is no chat, embedding or count of tokens."""

HOSTS = {
    "aiplatform.googleapis.com": 64,
    "api.anthropic.com": 151,
    "api.cerebras.ai": 5,
    "api.cohere.com": 10,
    "api.deepseek.com": 4,
    "api.groq.com": 40,
    "api.inference.crusoecloud.com": 4,
    "api.mistral.ai": 19,
    "api.openai.com": 241,
    "api.voyageai.com": 4,
    "api.z.ai": 3,
    "azure-1.openai.azure.com": 1,
    "azure-2.openai.azure.com": 2,
    "bedrock-mantle.us-east-1.api.aws": 6,
    "bedrock-runtime.us-east-1.amazonaws.com": 136,
    "bedrock-runtime.us-east-2.amazonaws.com": 1,
    "generativelanguage.googleapis.com": 122,
    "myorg-myaccount.snowflakecomputing.com": 4,
    "ollama.com": 2,
    "openrouter.ai": 31,
    "router.huggingface.co": 7,
    "us.inference.heroku.com": 1,
}


@pytest.mark.usefixtures("cassettes")
def test_each_has_its_place() -> None:
    """Every recording belongs to one format or to one reason why it does not, and none of either is out of date."""
    exchanges = recordings.exchanges()
    places: dict[str, Counter[str]] = {}
    for exchange in exchanges:
        found = [
            name
            for name, pattern in (FORMATS | REST).items()
            if re.search(name if name in REST else pattern, exchange.url)
        ]
        assert len(found) == 1, (exchange.name, exchange.url, found)
        places.setdefault(found[0], Counter())[exchange.host] += 1
    assert places.keys() == FORMATS.keys() | REST.keys()
    assert dict(Counter(exchange.name.partition("/")[0] for exchange in exchanges)) == HOSTS
    assert len(exchanges) == sum(HOSTS.values()) == 858
    assert sum(sum(places[name].values()) for name in REST) == 30


@pytest.mark.usefixtures("cassettes")
def test_counts_of_responses() -> None:
    """How many tokens a request has is asked as it was recorded, and the answer is read."""
    codec = Responses()
    found = recordings.exchanges("api.openai.com/*.json")
    counts = [exchange for exchange in found if exchange.url.endswith("/responses/input_tokens")]
    assert len(counts) == 2
    for exchange in counts:
        http = codec.encode_count(codec.decode_request(json.encode(exchange.request)))
        assert "/v1" + http.path == exchange.url
        assert json.decode(http.body) == exchange.request
        assert codec.decode_count(exchange.content) in (16, 18)
