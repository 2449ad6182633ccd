"""The SDKs that are run: how each is built and started, and what it can do."""

import dataclasses
import os
import pathlib
import subprocess

from harness import Failure

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = HERE / "target"
JAVA_VERSIONS = {"java": "2.10.1", "java-2.9": "2.9.3"}
GO_VERSIONS = {"go": ("1.1.1", "go.mod"), "go-1.0": ("1.0.0", "v1.0.0.mod")}
ALL_FORMATS = ("pem", "hex", "pkcs12")
PROFILES = ("default", "fisco-rsa", "fisco-ec")


@dataclasses.dataclass(frozen=True)
class Sdk:
    """One version of one SDK."""

    key: str
    name: str
    profiles: tuple
    # Old versions are run with themselves and with the Rust SDK, not with every other.
    old: bool = False
    # What multicast tells the publisher: nothing in Java, which registers no callback.
    multicast_code: bool = True
    # Whether its callback learns if a message is a unicast.
    knows_kind: bool = True
    longest_topic: int = 254
    # How it reads the key of a private topic; nothing: it has no private topics.
    key_formats: tuple = ("pem", "hex")
    # Said to it with every connection.
    dialling: dict = dataclasses.field(default_factory=dict, hash=False)
    # Whether it connects again by itself after its node was restarted.
    reconnects: bool = True

    def argv(self, profile):
        """The command that starts its program."""
        if self.key in JAVA_VERSIONS:
            return java_command(self.key, profile)
        if self.key in GO_VERSIONS:
            return [str(HERE / "go/target" / self.key)]
        if self.key == "rust":
            return [str(rust_binary("amop-interop"))]
        return ["python3", str(HERE / "python/amop.py")]


SDKS = {
    sdk.key: sdk
    for sdk in (
        Sdk("java", f"Java SDK {JAVA_VERSIONS['java']}", PROFILES, multicast_code=False, key_formats=ALL_FORMATS),
        # Its BouncyCastle leaves PKCS#12 of today to the JDK, which cannot.
        Sdk("java-2.9", f"Java SDK {JAVA_VERSIONS['java-2.9']}", PROFILES, multicast_code=False, old=True),
        # Its reconnection spins: the channel that asks for it stays closed.
        Sdk("go", f"Go SDK {GO_VERSIONS['go'][0]}", PROFILES, knows_kind=False, reconnects=False),
        # It hangs in Dial when the node answers at once; an application has to try again.
        Sdk("go-1.0", f"Go SDK {GO_VERSIONS['go-1.0'][0]}", PROFILES, knows_kind=False, old=True, dialling={"patience_ms": 1000}),
        Sdk("rust", "amop-client", PROFILES, key_formats=ALL_FORMATS),
        # It offers no group but secp256k1, which the default profile does not have; and it does not reconnect.
        Sdk("python", "python-sdk's shape", ("fisco-rsa", "fisco-ec"), longest_topic=126, reconnects=False, key_formats=()),
    )
}


def java_command(key, profile):
    out = HERE / "java/target" / JAVA_VERSIONS[key]
    argv = ["java", "-Xmx1g", "-Dfile.encoding=UTF-8", "-cp", f"{out}/classes:{out}/lib/*"]
    if profile == "fisco-ec":
        # JDK 16 and later have no secp256k1: the SDK's OpenSSL does the handshake, BouncyCastle checks the chain.
        argv += ["-Dfisco.netty.enable.openssl.provider=true", "-Damop.bouncycastle.first=true"]
    return argv + ["amop.interop.Main"]


def rust_binary(name):
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / name


def build(keys):
    """Builds what the programs need. Downloads go to AMOP_CI_CACHE if that is set, else where the tools keep them."""
    cache = os.environ.get("AMOP_CI_CACHE")
    env = dict(os.environ, GOTOOLCHAIN="local")
    maven = ["mvn", "-q", "-B", "compile", "dependency:copy-dependencies"]
    if cache:
        env |= {"GOMODCACHE": f"{cache}/go/mod", "GOCACHE": f"{cache}/go/build"}
        maven.append(f"-Dmaven.repo.local={cache}/m2")
    run(["cargo", "build", "--release", "--locked", "-p", "amop", "-p", "amop-interop"], ROOT, dict(os.environ))
    for key in keys:
        if key in JAVA_VERSIONS:
            run(maven + [f"-Dfisco.sdk.version={JAVA_VERSIONS[key]}"], HERE / "java", env)
        elif key in GO_VERSIONS:
            version, module = GO_VERSIONS[key]
            if f"github.com/FISCO-BCOS/go-sdk v{version}\n" not in (HERE / "go" / module).read_text():
                raise Failure(f"interop/go/{module} does not ask for version {version} of the Go SDK, as sdks.py does")
            run(["go", "build", f"-modfile={module}", "-o", f"target/{key}", "."], HERE / "go", env)


def run(argv, directory, env):
    print(f"  {' '.join(argv[:6])} …", flush=True)
    subprocess.run(argv, cwd=directory, env=env, check=True, stdin=subprocess.DEVNULL, timeout=1800)


def versions():
    """What was run, for the table."""

    def first_line(*argv):
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        # Java begins with what it was told by the environment, if it was.
        lines = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("Picked up")]
        return lines[0].strip()

    return {
        "java": first_line("java", "-version"),
        "go": first_line("go", "version"),
        "python": first_line("python3", "--version"),
        "rust": first_line("rustc", "--version"),
    }
