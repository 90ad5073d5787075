"""OCI images of a wanted size and kind, made without tools."""
import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path


def _read(layout, descriptor):
    return json.loads((layout / "blobs/sha256" / descriptor["digest"].split(":")[1]).read_bytes())


def _write(layout, content):
    digest = hashlib.sha256(content).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def extended(source, target, *layers):
    """Copies the OCI layout `source` to `target` with further layers on top, each
    the bytes of a tar."""
    shutil.copytree(source, target)
    index = json.loads((target / "index.json").read_text())
    manifest = _read(target, index["manifests"][0])
    config = _read(target, manifest["config"])
    for tar in layers:
        layer = _write(target, tar)
        manifest["layers"].append({"mediaType": "application/vnd.oci.image.layer.v1.tar", **layer})
        config["rootfs"]["diff_ids"].append(layer["digest"])
    manifest["config"].update(_write(target, json.dumps(config).encode()))
    index["manifests"][0].update(_write(target, json.dumps(manifest).encode()))
    (target / "index.json").write_text(json.dumps(index))


def packed(files):
    """A tar of (name, content, mode)."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content, mode in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def padding(mib):
    """A layer that nothing compresses."""
    return packed((f"padding/{number}", os.urandom(10 << 20), 0o644) for number in range(mib // 10))


def busybox():
    """A layer with a shell."""
    return packed([("bin/busybox", Path("/bin/busybox").read_bytes(), 0o755)])


def layered(target, layers, mib):
    """An OCI layout like a usual image: `layers` layers with `mib` MiB of files in
    all, small and large ones. The layers are compressed with gzip."""
    (target / "blobs/sha256").mkdir(parents=True)
    found = {"layers": [], "diff_ids": []}
    for number in range(layers):
        tar = packed(_files(number, (mib << 20) // layers))
        found["diff_ids"].append("sha256:" + hashlib.sha256(tar).hexdigest())
        blob = _write(target, gzip.compress(tar, 6, mtime=0))
        found["layers"].append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **blob})
    rootfs = {"type": "layers", "diff_ids": found["diff_ids"]}
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
    blob = _write(target, json.dumps(config).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **blob},
        "layers": found["layers"],
    }
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        **_write(target, json.dumps(manifest).encode()),
        "annotations": {"org.opencontainers.image.ref.name": "latest"},
    }
    (target / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (target / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _files(number, size):
    """One layer: files of 4 KiB to 4 MiB until they make `size` bytes. Each layer
    replaces a file of the one below and removes another."""
    yield "etc/version", f"{number}".encode(), 0o644
    if number:
        yield f"usr/layer{number - 1}/0/.wh.0", b"", 0o644
    left, count = size, 0
    while left > 0:
        length = min(left, 4096 << (count % 11))
        yield f"usr/layer{number}/{count % 7}/{count}", _content(length), 0o644
        left, count = left - length, count + 1


def _content(length):
    """A third random, a third hexadecimal text, a third the same line again."""
    third = length // 3
    noise, text = os.urandom(third), os.urandom(third // 2 + 1).hex().encode()[:third]
    rest = length - 2 * third
    return noise + text + (b"the quick brown fox jumps over the lazy dog\n" * (rest // 44 + 1))[:rest]
