"""Certificates for TLS tests: an authority, and PEM files of certificates that it signs."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = (x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")))
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


@dataclass(frozen=True)
class Authority:
    """A certificate authority; `file` has its certificate."""

    folder: Path
    name: str = "authority"

    def __post_init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(self.name, self.name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        object.__setattr__(self, "_key", key)
        self.file.write_bytes(certificate.public_bytes(PEM))

    @property
    def file(self) -> Path:
        """The authority's certificate."""
        return self.folder / f"{self.name}.pem"

    def issue(
        self,
        name: str,
        password: str = "",
        *,
        hosts: tuple[x509.GeneralName, ...] = LOOPBACK,
        days: int = 30,
    ) -> tuple[Path, Path]:
        """A certificate file and its key file; a password encrypts the key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(name, self.name, key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
            .sign(self._key, hashes.SHA256())  # type: ignore[attr-defined]
        )
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            encryption = serialization.BestAvailableEncryption(password.encode())
        files = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(PEM))
        files[1].write_bytes(key.private_bytes(PEM, PKCS8, encryption))
        return files


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePublicKey, days: int = 30
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
    )
