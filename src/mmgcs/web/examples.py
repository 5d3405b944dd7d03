"""What the page on the API offers to copy: requests that work as they stand, in a shell and in Python."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Example:
    """Something to copy.

    Attributes:
        title: what it does.
        curl, python: how, in each; lines short enough for half a page.
    """

    title: str
    curl: str
    python: str


def examples(root: str, keyed: bool) -> list[Example]:
    """The examples for a server at the address `root`, which asks for an API key or does not."""
    key = '  -H "Authorization: Bearer $KEY" \\\n' if keyed else ""
    film = '{"plot": "Two detectives hunt a killer."}'
    as_json = f"""{key}  -H "Content-Type: application/json" \\
  -d '{film}'"""
    poster = "Path('poster.jpg').read_bytes()"
    return [
        Example(
            "A plot",
            f"curl {root}/api/v1/predict \\\n{as_json}",
            _python(
                f"{root}/api/v1/predict", f"film = {film}", "film", 'print(answer["genres"], answer["sure"])', keyed
            ),
        ),
        Example(
            "A plot and a poster, explained",
            f"""curl {root}/api/v1/predict \\
{key}  -F plot="Two detectives hunt a killer." \\
  -F poster=@poster.jpg -F explain=true""",
            _python(
                f"{root}/api/v1/predict",
                f"""poster = base64.b64encode({poster})
film = {{
    "plot": "Two detectives hunt a killer.",
    "poster": poster.decode(),
    "explain": True,
}}""",
                "film",
                """print(answer["genres"])
print(answer["explanation"]["inputs"])""",
                keyed,
                "import base64\n",
                "\nfrom pathlib import Path",
            ),
        ),
        Example(
            "Many films",
            f"""# A table becomes a job: its id, whether it is done,
# and the tagged table.
URL={root}/api/v1/batch
JOB=$(curl --silent $URL \\
{key}  -F file=@films.csv | grep -oP '"id":\\s*"\\K[^"]+')
until curl --silent $URL/$JOB | grep -E '"(done|failed)",'
do sleep 1; done
curl --fail $URL/$JOB/result --output tagged.csv""",
            _python(
                f"{root}/api/v1/batch",
                """films = [
    {"id": "1", "plot": "Wolves attack a village."},
    {"id": "2", "plot": "A singer falls in love."},
]""",
                '{"films": films}',
                """for film in answer["predictions"]:
    print(film["id"], film["prediction"]["genres"])""",
                keyed,
            ),
        ),
        Example(
            "As the original was asked",
            f"""curl {root}/predict \\
{as_json}

curl {root}/predict_image \\
{key}  -F poster=@poster.jpg""",
            _python(f"{root}/predict", f"film = {film}", "film", 'print(answer["genres"])', keyed),
        ),
    ]


def _python(url: str, given: str, body: str, shown: str, keyed: bool, before: str = "", after: str = "") -> str:
    imports = f"{before}import json\n{'import os' + chr(10) if keyed else ''}import urllib.request{after}"
    key = '\n    "Authorization": f"Bearer {os.environ[\'KEY\']}",' if keyed else ""
    return f"""{imports}

{given}
url = "{url}"
headers = {{
    "Content-Type": "application/json",{key}
}}
body = json.dumps({body}).encode()
request = urllib.request.Request(url, body, headers)
with urllib.request.urlopen(request) as response:
    answer = json.load(response)
{shown}"""
