"""`nemoforge verify-worker` as a Modal web server, for `nemoforge verify --backend http`.

    modal secret create nemoforge-verify NEMOFORGE_API_KEY=...
    modal deploy deploy/modal_verifier.py          # prints the URL
    NEMOFORGE_VERIFY_API_KEY=... nemoforge verify --run RUN --backend http --backend-url URL

The container runs the very program that any other machine runs, so the wire format, the key, the limits and the record are
the same. Environment: NEMOFORGE_MODAL_GPU (a name such as H100; without it a CPU machine), NEMOFORGE_MODAL_CONTAINERS (the
most at a time, default 4), NEMOFORGE_MODAL_WORKERS (candidates at a time in each, default 2). The program is built in the
image from this source tree. Where the container's kernel gives no user namespaces to bubblewrap the worker refuses to
start, and says so: candidates of one container must not see each other.
"""

import os
import pathlib
import subprocess

import modal

SOURCE = pathlib.Path(__file__).resolve().parent.parent
REMOTE = "/opt/nemoforge"
PORT = 8100
GPU = os.environ.get("NEMOFORGE_MODAL_GPU")
MAX_CONTAINERS = int(os.environ.get("NEMOFORGE_MODAL_CONTAINERS", "4"))
WORKERS = int(os.environ.get("NEMOFORGE_MODAL_WORKERS", "2"))

# Packages and pinned requirements come from the source's own list: scripts/setup reads requirements/verifier.txt.
image = (
    modal.Image.from_registry("debian:12-slim", add_python="3.11")
    .add_local_dir(SOURCE, REMOTE, copy=True, ignore=["build", ".venv", ".git"])
    .run_commands(f"cd {REMOTE} && scripts/setup run",
                  f"cd {REMOTE} && cmake --preset release && cmake --build --preset release --target nemoforge")
    .env({"NEMOFORGE_MODAL_WORKERS": str(WORKERS)})
)
app = modal.App("nemoforge-verify", image=image)


def worker_command():
    """What runs in the container. The key comes from the secret, by the environment, and never stands in a command line."""
    return [f"{REMOTE}/build/release/nemoforge", "verify-worker", "--host", "0.0.0.0", "--port", str(PORT),
            "--workers", str(WORKERS), "--max-queue", str(2 * WORKERS)]


@app.function(gpu=GPU, cpu=float(WORKERS), memory=4096 * WORKERS, max_containers=MAX_CONTAINERS, timeout=3600,
              secrets=[modal.Secret.from_name("nemoforge-verify", required_keys=["NEMOFORGE_API_KEY"])])
@modal.concurrent(max_inputs=3 * WORKERS)
@modal.web_server(PORT, startup_timeout=120)
def verify_worker():
    subprocess.Popen(worker_command())
