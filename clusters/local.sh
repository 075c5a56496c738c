#!/usr/bin/env bash
# This machine as a cluster of one node: clusters/local.sh [further options of `ray start`]. `ray stop` ends it.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# A job's `python` is the first one on the PATH with which Ray was started.
export PATH="$project/.venv/bin:$PATH" RAY_AUTH_MODE=token
[ -s "${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}" ] || [ -n "${RAY_AUTH_TOKEN:-}" ] || ray get-auth-token --generate > /dev/null
ray start --head --dashboard-host=127.0.0.1 --disable-usage-stats "$@"
cat << TEXT

Send it work (the token is this machine's own):
  export RAY_AUTH_MODE=token
  orchestrate submit --address http://127.0.0.1:8265 --storage $project/runs -- train rlvr
TEXT
