"""An OCI image of a wanted size, made from another one without tools."""
import hashlib
import io
import json
import os
import shutil
import tarfile


def _read(layout, descriptor):
    return json.loads((layout / "blobs/sha256" / descriptor["digest"].split(":")[1]).read_bytes())


def _write(layout, content):
    digest = hashlib.sha256(content).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def padded(source, target, mib):
    """Copies the OCI layout `source` to `target` with a layer of `mib` MiB on
    top that nothing compresses."""
    shutil.copytree(source, target)
    index = json.loads((target / "index.json").read_text())
    manifest = _read(target, index["manifests"][0])
    config = _read(target, manifest["config"])
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for number in range(mib // 10):
            entry = tarfile.TarInfo(f"padding/{number}")
            entry.size = 10 << 20
            tar.addfile(entry, io.BytesIO(os.urandom(entry.size)))
    layer = _write(target, archive.getvalue())
    manifest["layers"].append({"mediaType": "application/vnd.oci.image.layer.v1.tar", **layer})
    config["rootfs"]["diff_ids"].append(layer["digest"])
    manifest["config"].update(_write(target, json.dumps(config).encode()))
    index["manifests"][0].update(_write(target, json.dumps(manifest).encode()))
    (target / "index.json").write_text(json.dumps(index))
