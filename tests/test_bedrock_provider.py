"""Bedrock by name: the same client, another format, and the two ways to say who asks."""

from __future__ import annotations

import hashlib
import hmac
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from antiphon import Client
from antiphon.chat.answers import Choice, Completion, CompletionChunk
from antiphon.chat.messages import Message, ToolCall
from antiphon.errors import AntiphonError, MissingAPIKeyError, MissingExtraError, RateLimitError, StreamError
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.codec import HTTPRequest
from antiphon.providers.auth import AWSSignature
from antiphon.providers.catalog import ProviderRow, find_provider
from antiphon.testing import Fault, SeenRequest, Upstream

KEY = "bedrock-api-key-0123456789"
MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
PATH = "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give a server that speaks Converse."""
    with Upstream("Hello from Bedrock", codec=Bedrock()) as server:
        yield server


@pytest.fixture
def client(upstream: Upstream) -> Iterator[Client]:
    """Give a client of that server."""
    with Client(provider="bedrock", base_url=upstream.base_url.removesuffix("/v1"), api_key=KEY) as client:
        yield client


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Keep AWS's files and the machine's own role out of a test."""
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    return monkeypatch


def test_whole(client: Client, upstream: Upstream) -> None:
    """A whole answer crosses both ways; the model is in the path, and the key where Bedrock wants it."""
    answer = client.chat.completions.create([Message.system("Be brief."), Message.user("hi")], MODEL)
    assert (answer.content, answer.provider, answer.model) == ("Hello from Bedrock", "bedrock", MODEL)
    assert (answer.choices[0].finish_reason, answer.losses) == ("stop", ())
    seen = upstream.requests[-1]
    assert (seen.path, seen.headers["authorization"]) == (f"{PATH}/converse", f"Bearer {KEY}")
    assert seen.json == {
        "system": [{"text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"text": "hi"}]}],
    }


def test_streamed(client: Client, upstream: Upstream) -> None:
    """A streamed answer comes in frames and leaves in OpenAI's chunks, with usage on the last one."""
    chunks = list(client.chat.completions.create("hi", MODEL, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello from Bedrock"
    assert chunks[-1].usage is not None
    assert (chunks[-1].choices[0].finish_reason, chunks[-1].usage.total_tokens) == ("stop", 5)
    seen = upstream.requests[-1]
    assert (seen.path, seen.headers["accept"]) == (f"{PATH}/converse-stream", "application/vnd.amazon.eventstream")


def test_tools(client: Client, upstream: Upstream) -> None:
    """A tool goes there, and a call of it comes back."""
    call = ToolCall("tooluse_1", "look", '{"at":"left"}')
    upstream.answer = Completion(choices=(Choice(0, Message("assistant", (call,)), "tool_calls"),))
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    answer = client.chat.completions.create("Look.", MODEL, tools=[tool])
    assert (answer.choices[0].message.parts, answer.choices[0].finish_reason) == ((call,), "tool_calls")
    assert [one["toolSpec"]["name"] for one in upstream.requests[-1].json["toolConfig"]["tools"]] == ["look"]


def test_throttled(client: Client, upstream: Upstream) -> None:
    """429 is a rate limit that may pass, under the provider's name of it."""
    upstream.fault = Fault(
        "status",
        status=429,
        headers={"x-amzn-errortype": "ThrottlingException:http://internal.amazon.com/", "x-amzn-requestid": "r-1"},
        body=b'{"message":"Too many tokens"}',
    )
    with pytest.raises(RateLimitError, match="Too many tokens") as caught:
        client.chat.completions.create("hi", MODEL)
    assert (caught.value.type, caught.value.retryable) == ("ThrottlingException", True)
    assert (caught.value.provider, caught.value.request_id) == ("bedrock", "r-1")


@pytest.mark.parametrize(
    "fault", [Fault.half_frame(after=2), Fault.garbage(after=2), Fault.error_inside(after=2), Fault.cut(after=400)]
)
def test_broken_streams(client: Client, upstream: Upstream, fault: Fault) -> None:
    """A stream that breaks, however, is an error and never a finish."""
    upstream.fault = fault
    chunks = iter(client.chat.completions.create("hi", MODEL, stream=True))
    received: list[CompletionChunk] = []
    with pytest.raises(StreamError):
        received.extend(chunks)
    assert received
    assert {choice.finish_reason for chunk in received for choice in chunk.choices} == {None}


# Where it is


def row() -> ProviderRow:
    """Return the built-in row."""
    found = find_provider("bedrock")
    assert isinstance(found, ProviderRow)
    return found


@pytest.mark.parametrize("names", [("AWS_REGION",), ("AWS_DEFAULT_REGION",), ("AWS_DEFAULT_REGION", "AWS_REGION")])
def test_the_region_is_part_of_the_host(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    """Either of AWS's two variables says where; AWS_REGION goes first."""
    for name in names:
        monkeypatch.setenv(name, {"AWS_REGION": "us-west-2"}.get(name, "eu-west-1"))
    region = "us-west-2" if "AWS_REGION" in names else "eu-west-1"
    assert row().url() == f"https://bedrock-runtime.{region}.amazonaws.com"


def test_without_a_region_the_error_says_what_to_set() -> None:
    """No region is guessed, since a prompt would go there."""
    with pytest.raises(AntiphonError, match="Set AWS_REGION in the environment"):
        row().url()


# Who asks


def signature(seen: SeenRequest, host: str, region: str) -> str:
    """Return the signature that AWS expects, made by the published steps of Signature Version 4 and nothing else."""
    path = seen.path.replace("%", "%25")  # each segment is quoted twice, for every service but S3
    moment, signed = seen.headers["x-amz-date"], seen.headers["authorization"].partition("SignedHeaders=")[2]
    names = signed.partition(",")[0].split(";")
    headers = "".join(f"{name}:{seen.headers[name] if name != 'host' else host}\n" for name in names)
    digest = hashlib.sha256(seen.body).hexdigest()
    canonical = "\n".join((seen.method, path, "", headers, ";".join(names), digest))
    scope = f"{moment[:8]}/{region}/bedrock/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{SECRET}".encode()
    for piece in scope.split("/"):
        key = hmac.digest(key, piece.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def test_without_a_key_requests_are_signed(aws: pytest.MonkeyPatch, upstream: Upstream) -> None:
    """With AWS credentials the signature over method, host, path, body and session is the one that AWS computes."""
    aws.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    aws.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    aws.setenv("AWS_SESSION_TOKEN", "session-token")
    base_url = upstream.base_url.removesuffix("/v1")
    with Client(provider="bedrock", base_url=base_url) as client:
        assert client.chat.completions.create("Grüße", MODEL).content == "Hello from Bedrock"
        assert len(list(client.chat.completions.create("hi", MODEL, stream=True))) > 2
    for seen in upstream.requests:
        authorization = seen.headers["authorization"]
        expected = signature(seen, base_url.removeprefix("http://"), "eu-central-1")
        assert authorization.endswith(f"Signature={expected}")
        assert "host;x-amz-date;x-amz-security-token" in authorization
        assert "AKIDEXAMPLE/" in authorization
        assert seen.headers["x-amz-security-token"] == "session-token"


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("bedrock-runtime.us-east-1.amazonaws.com", "us-east-1"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("vpce-0a1.bedrock-runtime.ap-southeast-2.vpce.amazonaws.com", "ap-southeast-2"),
        ("gateway.example.org", "eu-central-1"),
    ],
)
def test_the_region_of_a_signature(aws: pytest.MonkeyPatch, host: str, region: str) -> None:
    """It is signed for the region in the host's name, and where there is none for that of the environment."""
    aws.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    aws.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    request = HTTPRequest(path="/model/m/converse", body=b"{}")
    headers = AWSSignature("bedrock")(request, f"https://{host}{request.path}")
    assert f"/{region}/bedrock/aws4_request" in headers["authorization"]
    assert SECRET not in repr(headers)
    assert "AKIDEXAMPLE" not in repr(headers)


def test_a_signature_needs_a_region(aws: pytest.MonkeyPatch) -> None:
    """A host that tells no region needs the environment to."""
    aws.delenv("AWS_REGION")
    aws.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    aws.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(AntiphonError, match="Set AWS_REGION"):
        AWSSignature("bedrock")(HTTPRequest(path="/", body=b""), "https://gateway.example.org/")


def test_without_key_and_credentials(aws: pytest.MonkeyPatch, upstream: Upstream) -> None:
    """Who has neither is told what to set, and nothing is sent."""
    with Client(provider="bedrock", base_url=upstream.base_url.removesuffix("/v1")) as client:
        with pytest.raises(MissingAPIKeyError, match="Set AWS_BEARER_TOKEN_BEDROCK") as caught:
            client.chat.completions.create("hi", MODEL)
    assert (caught.value.provider, upstream.requests) == ("bedrock", [])


def test_a_profile_that_is_not_there(aws: pytest.MonkeyPatch) -> None:
    """What AWS's own tools refuse is told in their words."""
    aws.setenv("AWS_PROFILE", "absent")
    with pytest.raises(MissingAPIKeyError, match="absent"):
        AWSSignature("bedrock")(HTTPRequest(path="/", body=b""), "https://bedrock-runtime.us-east-1.amazonaws.com/")


def test_without_the_extra(aws: pytest.MonkeyPatch, upstream: Upstream) -> None:
    """Without botocore the error names the command that installs it, and the key that does without."""
    for name in ("botocore", "botocore.auth"):
        aws.setitem(sys.modules, name, None)
    with Client(provider="bedrock", base_url=upstream.base_url.removesuffix("/v1")) as client:
        with pytest.raises(MissingExtraError, match=r"pip install 'antiphon\[bedrock\]'") as caught:
            client.chat.completions.create("hi", MODEL)
    assert "AWS_BEARER_TOKEN_BEDROCK" in str(caught.value)
    assert upstream.requests == []


def test_a_refused_signature_shows_no_token() -> None:
    """AWS answers a wrong signature with what it signed, a session's token among it; the error leaves that out."""
    body = b'{"message":"The request signature does not match.\\n\\nThe Canonical String was x-amz-security-token:abc"}'
    error = Bedrock().decode_error(403, {"x-amzn-errortype": "InvalidSignatureException"}, body)
    assert "does not match" in str(error)
    assert "abc" not in f"{error} {error.body}"
