"""Ask a server for one person's list: python ask.py http://127.0.0.1:8080"""

import sys

from octorec.client import Client, Refused, Unavailable

with Client(sys.argv[1], timeout_s=20) as client:
    answer = client.recommend(["50", "181", "172"], k=5, titles=True, exclude_seen=True)
    for item, title, score in zip(answer.items, answer.titles or [], answer.scores, strict=True):
        print(f"{item:>6} {score:8.3f} {title}")
    print("exact" if answer.exact else "a wider beam might find better", f"after {answer.timings['total_ms']:.1f} ms")

    try:
        client.recommend(["50"], k=0)
    except Refused as error:  # the request is wrong: asking again does not help
        print(f"refused, because of {error.field}: {error.message}")
    except Unavailable as error:  # the server was busy until the time was over: show something else
        print(f"no answer: {error}")
