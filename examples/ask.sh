#!/bin/sh
# Ask a server by curl: sh ask.sh http://127.0.0.1:8080
set -eu
ask() {
  curl --silent --show-error --max-time 20 --retry 3 "$@"
  echo
}
ask "$1/v2/health/ready"
ask "$1/v1/recommend" --data '{"history": ["50", "181", "172"], "k": 3, "titles": true}'
ask "$1/v1/recommend" --data '[{"history": ["50"], "k": 2}, {"history": ["12"], "k": 2, "allow": ["Drama"]}]'
ask "$1/v1/recommend" --data '{"history": ["50"], "k": 0}' # 422: the answer names the field
