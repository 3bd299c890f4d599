"""An S3 service on loopback that checks signatures: moto's, over HTTP and HTTPS."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import httpx
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from pydantic import SecretStr
from werkzeug.serving import WSGIRequestHandler, make_server

from processors.s3_settings import S3Settings
from tests.support.certificates import Authority

REGION = "eu-north-1"
ALL_OF_S3 = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}


@dataclass(frozen=True)
class S3Service:
    """A running service with an empty bucket, and the only credentials that it accepts."""

    http: str
    https: str
    authority: Path
    bucket: str
    access_key_id: str
    secret_access_key: str

    def settings(self, **changes: Any) -> S3Settings:
        """The settings of a client, over HTTP."""
        return S3Settings(
            **{
                "endpoint": self.http,
                "region": REGION,
                "access_key_id": self.access_key_id,
                "secret_access_key": SecretStr(self.secret_access_key),
                **changes,
            }
        )

    def object_keys(self) -> list[str]:
        """The keys of the bucket's objects."""
        client = boto3.client(
            "s3",
            endpoint_url=self.http,
            region_name=REGION,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
        )
        listed = client.list_objects_v2(Bucket=self.bucket)
        return [entry["Key"] for entry in listed.get("Contents", [])]


class Silent(WSGIRequestHandler):
    """Logs nothing."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Do nothing."""


@contextmanager
def s3_service(folder: Path) -> Iterator[S3Service]:
    """Run the service while the block runs; its certificate and authority are in the folder."""
    authority = Authority(folder)
    certificate, key = authority.issue("s3")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    app = DomainDispatcherApplication(create_backend_app)
    with ExitStack() as running:
        http = f"http://127.0.0.1:{running.enter_context(_listening(app, None))}"
        https = f"https://localhost:{running.enter_context(_listening(app, tls))}"
        yield S3Service(http, https, authority.file, *_user_and_bucket(http))


@contextmanager
def _listening(app: Any, tls: ssl.SSLContext | None) -> Iterator[int]:
    server = make_server(
        "127.0.0.1", 0, app, threaded=True, ssl_context=tls, request_handler=Silent
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _user_and_bucket(url: str) -> tuple[str, str, str]:
    """A new bucket, and the key and secret of a new user; from then on each signature is checked."""
    _check_signatures_after(url, "inf")
    root = {
        "endpoint_url": url,
        "region_name": REGION,
        "aws_access_key_id": "root",
        "aws_secret_access_key": "root",
    }
    bucket = f"texts-{uuid4().hex[:8]}"
    location = {"LocationConstraint": REGION}
    boto3.client("s3", **root).create_bucket(Bucket=bucket, CreateBucketConfiguration=location)
    iam = boto3.client("iam", **root)
    user = {"UserName": f"cjstream-{bucket}"}
    iam.create_user(**user)
    policy = json.dumps({"Version": "2012-10-17", "Statement": [ALL_OF_S3]})
    iam.put_user_policy(**user, PolicyName="all", PolicyDocument=policy)
    key = iam.create_access_key(**user)["AccessKey"]
    _check_signatures_after(url, "0")
    return bucket, key["AccessKeyId"], key["SecretAccessKey"]


def _check_signatures_after(url: str, requests: str) -> None:
    text = {"Content-Type": "text/plain"}
    httpx.post(
        f"{url}/moto-api/reset-auth", content=requests, headers=text, timeout=30
    ).raise_for_status()
