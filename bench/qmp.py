"""A client of QEMU's monitor, over a socket that is made before QEMU starts."""
import array
import json
import os
import socket


class Qmp:
    """`arguments` and `fds` are for the QEMU that is to be started; commands that
    are sent before it runs wait."""

    def __init__(self, path):
        if os.path.exists(path):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.fds = [self.listener.fileno()]
        self.arguments = [
            "-chardev", f"socket,id=qmp,fd={self.fds[0]},server=on,wait=off",
            "-mon", "chardev=qmp,mode=control",
        ]
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.settimeout(60)
        self.stream.connect(str(path))
        self.lines = self.stream.makefile("r")
        self.events = []

    def greet(self):
        """Returns when QEMU is there."""
        # From now on its end is QEMU's alone: if that dies, reading ends.
        self.listener.close()
        self._line()
        self.ask("qmp_capabilities")

    def ask(self, command, fd=None, **arguments):
        message = (json.dumps({"execute": command, "arguments": arguments}) + "\n").encode()
        rights = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self.stream.sendmsg([message], rights)
        while True:
            reply = self._line()
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                raise RuntimeError(f"QEMU refused {command}: {reply['error']['desc']}")
            self.events.append(reply)

    def until_migrated(self):
        """Until a migration, out or in, has ended."""
        while True:
            reply = self.events.pop(0) if self.events else self._line()
            status = reply.get("event") == "MIGRATION" and reply["data"]["status"]
            if status == "failed":
                raise RuntimeError("QEMU could not migrate")
            if status == "completed":
                return

    def close(self):
        for end in [self.lines, self.stream, self.listener]:
            end.close()

    def _line(self):
        line = self.lines.readline()
        if not line:
            raise RuntimeError("QEMU has gone")
        return json.loads(line)
