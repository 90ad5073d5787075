"""The network namespace in which a platform reaches its guests.

The guests' private addresses are routed only there. Earlier versions have none:
their taps are in the daemon's own namespace, which is that of the bench.
"""
import json
import re
import socket
import subprocess


def entered():
    """Words in front of a command that has to run where the guests are reached."""
    links = json.loads(subprocess.run(["ip", "-json", "link"], check=True, capture_output=True).stdout)
    # The outer end of the platform's uplink names its tag.
    tags = [found[1] for link in links if (found := re.fullmatch(r"ud([0-9a-f]{4})-host", link["ifname"]))]
    return [word for tag in tags for word in ["nsenter", f"--net=/run/netns/updraft-{tag}"]]


def listener(address):
    """A socket of this namespace that a process in another one can accept from."""
    return socket.create_server(address, backlog=1024)
