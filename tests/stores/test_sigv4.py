"""Signatures, against AWS's published examples and against botocore."""

from __future__ import annotations

import calendar
import hashlib
from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.stores.sigv4 import EMPTY_PAYLOAD, Signer, encode_path, encode_query

ACCESS, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
HOST = "examplebucket.s3.amazonaws.com"
MOMENT = calendar.timegm((2013, 5, 24, 0, 0, 0))

# Amazon S3 API reference, "Authenticating Requests: Using the Authorization Header", examples.
PUBLISHED = {
    "get object with a range": (
        ("GET", "/test.txt", "", {"range": "bytes=0-9"}, b""),
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    "put object": (
        (
            "PUT",
            "/test%24file.text",
            "",
            {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            b"Welcome to Amazon S3.",
        ),
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    "get bucket lifecycle": (
        ("GET", "/", "lifecycle=", {}, b""),
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    "list objects": (
        ("GET", "/", "max-keys=2&prefix=J", {}, b""),
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
}


@pytest.mark.parametrize(("request_", "signature"), PUBLISHED.values(), ids=PUBLISHED)
def test_signatures_are_those_that_aws_publishes(request_, signature):
    method, path, query, extra, body = request_
    headers = {"host": HOST, **extra}
    payload = hashlib.sha256(body).hexdigest()
    Signer(ACCESS, SECRET, "us-east-1").sign(method, path, query, headers, payload, moment=MOMENT)
    assert headers["authorization"].startswith(
        f"AWS4-HMAC-SHA256 Credential={ACCESS}/20130524/us-east-1/s3/aws4_request,SignedHeaders="
    )
    assert headers["authorization"].endswith(f",Signature={signature}")


# Keys of any characters that UTF-8 can say, and values that HTTP headers can carry.
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@settings(deadline=None)
@given(
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE"]),
    key=KEYS,
    query=st.dictionaries(st.sampled_from(["prefix", "uploads", "uploadId", "a b"]), KEYS),
    metadata=st.dictionaries(st.sampled_from(["x-amz-meta-a", "x-amz-meta-b-2", "range"]), VALUES),
    body=st.binary(max_size=20),
    second=st.integers(0, 4 * 10**9),
)
def test_signatures_are_those_that_botocore_makes(method, key, query, metadata, body, second):
    path = "/bucket/" + encode_path(key)
    request = AWSRequest(method, f"http://127.0.0.1:9000{path}", metadata, body, query)
    request.context["payload_signing_enabled"] = True
    signed = dict(metadata) | {"host": "127.0.0.1:9000"}
    payload = hashlib.sha256(body).hexdigest()
    Signer(ACCESS, SECRET, "eu-west-1").sign(
        method, path, encode_query(query), signed, payload, moment=second
    )
    with patch("botocore.auth.get_current_datetime") as clock:
        clock.return_value = datetime.fromtimestamp(second, UTC)
        S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", "eu-west-1").add_auth(request)
    assert _signature(signed["authorization"]) == _signature(request.headers["Authorization"])


def _signature(header: str) -> str:
    return header.rpartition("Signature=")[2]


def test_the_signing_key_follows_the_day():
    headers: list[dict[str, str]] = [{"host": HOST} for _ in range(3)]
    signer = Signer(ACCESS, SECRET, "us-east-1")
    for moment, one in zip((MOMENT, MOMENT + 86_400, MOMENT), headers, strict=True):
        signer.sign("GET", "/", "", one, moment=moment)
    first, next_day, again = (one["authorization"] for one in headers)
    assert "/20130525/" in next_day
    assert first == again != next_day


def test_a_path_is_encoded_once_and_never_normalised():
    assert encode_path("a//./../%2F+ é/") == "a//./../%252F%2B%20%C3%A9/"


def test_a_query_is_sorted_by_its_encoded_names():
    assert encode_query({"b": "/", "a+": "", "a": "ü"}) == "a=%C3%BC&a%2B=&b=%2F"


def test_a_body_of_no_bytes_has_the_known_hash():
    assert EMPTY_PAYLOAD.startswith("e3b0c44298fc1c14")
