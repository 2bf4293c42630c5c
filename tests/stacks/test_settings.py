"""What a stack's file may say, and what each mistake in it is answered with."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stacks import conflicts, names, patterns
from stacks.settings import RuleSettings, SettingsError, StackSettings, parse
from tandem.rule import Group, Rule
from tandem.settings import Reconcile, Sweep

ROOT = Path(__file__).parents[2]

SITES = "sites: {a: {server: source}, b: {server: target}, c: {server: target}}"
RULES = "rules: [{name: one, source: a, targets: [b]}]"
GOOD = f"{SITES}\n{RULES}"


def config(text: str) -> dict[str, str]:
    """Give a file's settings as Pulumi gives them: every value a text, JSON if it has parts."""
    read: dict[str, Any] = yaml.safe_load(text)
    return {
        f"tandem:{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in read.items()
    }


def mistakes(text: str, stack: str = "dev") -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(config(text), stack=stack)
    return list(caught.value.lines)


def rules(*told: str) -> str:
    return f"{SITES}\nrules: [{', '.join(f'{{{rule}}}' for rule in told)}]"


def site(told: str) -> str:
    return f"sites: {{a: {{server: source}}, b: {{server: target, {told}}}}}\n{RULES}"


PLAIN = "lower-case letters, digits and hyphens, beginning and ending with a letter or digit"
ONE = "name: one, source: a, targets: [b]"
FREE_PORT = "a whole number from 1024 to 65535"
KEYS = "topology, forceDestroy, sites, rules, reconcile, sweep, local"
INTERVAL = "a time from 10s to 30d, such as 90s, 10m or 1h, or off"
AFFIX_FIX = "break it by another target, prefix or suffix"
PATTERN = 'a pattern of keys such as "*/_SUCCESS" or "*.manifest"'
RIVAL_FIX = "let each key of a site come from one rule, by prefix or suffix"

MISTAKES = {
    "unknown topology": (
        f"{GOOD}\ntopology: aws",
        'tandem:topology is "aws": use local',
    ),
    "a text for true or false": (
        f"{GOOD}\nforceDestroy: sometimes",
        'tandem:forceDestroy is "sometimes": use true or false',
    ),
    "unknown key, near to one": (
        f"{GOOD}\nforce_destroy: true",
        "tandem:force_destroy is unknown: did you mean forceDestroy?",
    ),
    "unknown key, near to none": (
        f"{GOOD}\ncolour: red",
        f"tandem:colour is unknown: use one of {KEYS}",
    ),
    "a key of the model that is none of the file": (
        f"{GOOD}\nstack: prod",
        f"tandem:stack is unknown: use one of {KEYS}",
    ),
    "an interval without a unit": (
        f"{GOOD}\nreconcile: {{every: 60}}",
        f"tandem:reconcile.every is 60: use {INTERVAL}",
    ),
    "an interval in words": (
        f"{GOOD}\nreconcile: {{every: hourly}}",
        f'tandem:reconcile.every is "hourly": use {INTERVAL}',
    ),
    "an interval that would list all the time": (
        f"{GOOD}\nreconcile: {{every: 1s}}",
        f'tandem:reconcile.every is "1s": use {INTERVAL}',
    ),
    "an interval in place of its section": (
        f"{GOOD}\nreconcile: 1h",
        'tandem:reconcile is "1h": use a mapping with the keys every, thorough',
    ),
    "an age of never": (
        f"{GOOD}\nsweep: {{olderThan: never}}",
        'tandem:sweep.olderThan is "never": use a time from 10s to 30d, such as 90s, 10m or 1h',
    ),
    "an age that is none yet": (
        f"{GOOD}\nsweep: {{olderThan: 5s}}",
        'tandem:sweep.olderThan is "5s": use a time from 10s to 30d, such as 90s, 10m or 1h',
    ),
    "unknown key of reconcile": (
        f"{GOOD}\nreconcile: {{interval: 1h}}",
        "tandem:reconcile.interval is unknown: use one of every, thorough",
    ),
    "no sites": (
        "sites:\nrules: [{name: one, source: a, targets: [b]}]",
        "tandem:sites is null: use a mapping of names to sites, as in stacks/Pulumi.local.yaml",
    ),
    "no rules": (
        SITES,
        "tandem:rules is missing: use a list of rules, as in stacks/Pulumi.local.yaml",
    ),
    "an empty list of rules": (
        f"{SITES}\nrules: []",
        "tandem:rules is []: use a list of rules, as in stacks/Pulumi.local.yaml",
    ),
    "text that is no JSON": (
        f"{SITES}\nrules: '[{{name: one'",
        'tandem:rules is "[{name: one": use a list of rules, as in stacks/Pulumi.local.yaml',
    ),
    "a site without a server": (
        f"sites: {{a: {{server: source}}, b: {{versioning: true}}}}\n{RULES}",
        "tandem:sites.b.server is missing: use source or target",
    ),
    "a server that there is not": (
        f"sites: {{a: {{server: source}}, b: {{server: backup}}}}\n{RULES}",
        'tandem:sites.b.server is "backup": use source or target',
    ),
    "a site that has no parts": (
        f"sites: {{a: {{server: source}}, b: target}}\n{RULES}",
        'tandem:sites.b is "target": use a mapping with the keys server, bucket, adopt, versioning',
    ),
    "unknown key of a site": (
        site("verzioning: true"),
        "tandem:sites.b.verzioning is unknown: did you mean versioning?",
    ),
    "yes for true": (
        site("versioning: 'yes'"),
        'tandem:sites.b.versioning is "yes": use true or false',
    ),
    "a site's name with capitals": (
        f"{SITES[:-1]}, Backup: {{server: target}}}}\n{RULES}",
        f"tandem:sites.Backup has a name that will not do: use 1 to 32 {PLAIN}",
    ),
    "a site's name with a dot": (
        f"{SITES[:-1]}, b.c: {{server: target}}}}\n{RULES}",
        f'tandem:sites["b.c"] has a name that will not do: use 1 to 32 {PLAIN}',
    ),
    "a bucket of two characters": (
        site("bucket: ab"),
        'tandem:sites.b.bucket is "ab": use 3 to 63 characters',
    ),
    "a bucket with an underscore": (
        site("bucket: my_bucket"),
        (
            'tandem:sites.b.bucket is "my_bucket": '
            "use lower-case letters, digits, dots and hyphens only"
        ),
    ),
    "a bucket with a hyphen last": (
        site("bucket: my-bucket-"),
        'tandem:sites.b.bucket is "my-bucket-": begin and end with a letter or digit',
    ),
    "a bucket with two dots": (
        site("bucket: my..bucket"),
        'tandem:sites.b.bucket is "my..bucket": use no two dots in a row',
    ),
    "a bucket like an address": (
        site("bucket: 192.168.5.4"),
        'tandem:sites.b.bucket is "192.168.5.4": use a name that does not look like an IP address',
    ),
    "a bucket with a reserved beginning": (
        site("bucket: xn--bucket"),
        'tandem:sites.b.bucket is "xn--bucket": use another beginning, S3 reserves "xn--"',
    ),
    "a bucket with a reserved ending": (
        site("bucket: bucket--ol-s3"),
        'tandem:sites.b.bucket is "bucket--ol-s3": use another ending, S3 reserves "--ol-s3"',
    ),
    "a bucket that is a number": (
        site("bucket: 2026"),
        "tandem:sites.b.bucket is 2026: use the name of a bucket",
    ),
    "two sites that are one bucket": (
        site("bucket: shared").replace("b: {", "c: {server: target, bucket: shared}, b: {"),
        (
            'tandem:sites.b.bucket is "shared" on the server target, and so is that of c: '
            "give each site a bucket of its own"
        ),
    ),
    "a rule without a name": (
        rules("source: a, targets: [b]"),
        "tandem:rules[0].name is missing: use a name that no other rule has",
    ),
    "a rule's name with a blank": (
        rules("name: my rule, source: a, targets: [b]"),
        f'tandem:rules[0].name is "my rule": use 1 to 32 {PLAIN}',
    ),
    "two rules of one name": (
        rules(ONE, "name: one, source: b, targets: [c]"),
        (
            'tandem:rules[1].name is "one", and so is that of rules[0]: '
            "give each rule a name of its own"
        ),
    ),
    "a rule without a source": (
        rules("name: one, targets: [b]"),
        "tandem:rules[0].source is missing: use the name of a site",
    ),
    "a rule without targets": (
        rules("name: one, source: a, targets: []"),
        "tandem:rules[0].targets is []: use a list with the names of one or more sites",
    ),
    "a target that is not in a list": (
        rules("name: one, source: a, targets: b"),
        'tandem:rules[0].targets is "b": use a list with the names of one or more sites',
    ),
    "a target that is a number": (
        rules("name: one, source: a, targets: [b, 7]"),
        "tandem:rules[0].targets[1] is 7: use the name of a site",
    ),
    "a target twice": (
        rules("name: one, source: a, targets: [b, c, b]"),
        'tandem:rules[0].targets[2] is "b" once more: name each target once',
    ),
    "a rule whose source is its target": (
        rules("name: one, source: a, targets: [b, a]"),
        'tandem:rules[0].targets[1] is "a", the rule\'s own source: name another site',
    ),
    "a source that is no site": (
        (
            "sites: {paris: {server: source}, rome: {server: target}}\n"
            "rules: [{name: one, source: pariss, targets: [rome]}]"
        ),
        'tandem:rules[0].source is "pariss", which is no site: did you mean paris?',
    ),
    "a target that is no site": (
        rules("name: one, source: a, targets: [berlin]"),
        'tandem:rules[0].targets[0] is "berlin", which is no site: use one of a, b, c',
    ),
    "a bad enum": (
        rules(f"{ONE}, deletes: never"),
        'tandem:rules[0].deletes is "never": use mirror or keep',
    ),
    "a prefix that is a number": (
        rules(f"{ONE}, prefix: 2026"),
        "tandem:rules[0].prefix is 2026: use a text of at most 512 bytes",
    ),
    "a prefix that is too long": (
        rules(f"{ONE}, prefix: {'é' * 257}"),
        f'tandem:rules[0].prefix is "{"é" * 58}…: use at most 512 bytes, not 514',
    ),
    "a target prefix that is too long": (
        rules(f"{ONE}, targetPrefix: {'é' * 257}"),
        f'tandem:rules[0].targetPrefix is "{"é" * 58}…: use at most 512 bytes, not 514',
    ),
    "a target prefix that is a number": (
        rules(f"{ONE}, targetPrefix: 2026"),
        "tandem:rules[0].targetPrefix is 2026: use a text of at most 512 bytes",
    ),
    "a target prefix where Tandem keeps things of its own": (
        rules(f"{ONE}, targetPrefix: .conflict/a"),
        (
            'tandem:rules[0].targetPrefix is ".conflict/a", where Tandem keeps things of its own: '
            "begin with neither .tandem/probe/ nor .conflict/"
        ),
    ),
    "a prefix where Tandem keeps things of its own": (
        rules(f"{ONE}, prefix: .tandem/probe/"),
        (
            'tandem:rules[0].prefix is ".tandem/probe/", where Tandem keeps things of its own: '
            "begin with neither .tandem/probe/ nor .conflict/"
        ),
    ),
    "other keys of its own source": (
        rules("name: one, source: a, targets: [a], prefix: x/, targetPrefix: y/"),
        'tandem:rules[0].targets[0] is "a", the rule\'s own source: name another site',
    ),
    "other keys of one source to the same keys": (
        rules(
            f"{ONE}, prefix: x/, targetPrefix: all/",
            "name: two, source: a, targets: [b], prefix: y/, targetPrefix: all/",
        ),
        (
            f'tandem:rules[1].targets[0] is "b", to which rules[0] writes keys like "all/…" too: '
            f"{RIVAL_FIX}"
        ),
    ),
    "what is stripped of its prefix beside what has none": (
        rules(
            f"{ONE}, prefix: x/, targetPrefix: ''",
            "name: two, source: c, targets: [b], prefix: y/",
        ),
        (
            f'tandem:rules[1].targets[0] is "b", to which rules[0] writes keys like "y/…" too: '
            f"{RIVAL_FIX}"
        ),
    ),
    "a loop in which keys grow": (
        rules(f"{ONE}, targetPrefix: from-a/", "name: two, source: b, targets: [a]"),
        (
            'tandem:rules[1].targets[0] is "a", which closes a loop for every key (a → b → a): '
            f"{AFFIX_FIX}"
        ),
    ),
    "a loop by other names": (
        rules(
            f"{ONE}, prefix: x/, targetPrefix: y/",
            "name: two, source: b, targets: [c], prefix: y/, targetPrefix: z/",
            "name: three, source: c, targets: [a], targetPrefix: x/",
        ),
        (
            'tandem:rules[2].targets[0] is "a", which closes a loop for keys like "x/…" '
            f"(a → b → c → a): {AFFIX_FIX}"
        ),
    ),
    "a tag whose value is a number": (
        rules(f"{ONE}, whereTags: {{year: 2026}}"),
        (
            "tandem:rules[0].whereTags.year is 2026: "
            "use a text, in quotes if it looks like a number, true or false"
        ),
    ),
    "tags in a list": (
        rules(f"{ONE}, whereTags: [project]"),
        (
            'tandem:rules[0].whereTags is ["project"]: '
            "use a mapping of tags to their values, such as {project: x}"
        ),
    ),
    "a tag without a name": (
        rules(f"{ONE}, whereTags: {{'': x}}"),
        (
            'tandem:rules[0].whereTags is {"": "x"}: '
            "use tags with names of 1 to 128 characters, not 0"
        ),
    ),
    "a tag with too long a value": (
        rules(f"{ONE}, whereTags: {{a: {'x' * 257}}}"),
        (
            f'tandem:rules[0].whereTags is {{"a": "{"x" * 52}…: '
            "use values of at most 256 characters, not 257"
        ),
    ),
    "more tags than an object has": (
        rules(f"{ONE}, whereTags: {{{', '.join(f'{one}: x' for one in 'bcdefghijkl')}}}"),
        (
            'tandem:rules[0].whereTags is {"b": "x", "c": "x", "d": "x", "e": "x", "f": "x", '
            '"g": "x"…: use at most 10 tags, not 11'
        ),
    ),
    "both ways by tags": (
        rules(f"{ONE}, whereTags: {{a: x}}, twoWay: true"),
        (
            'tandem:rules[0].whereTags is {"a": "x"}, and the rule goes both ways: go one way, or '
            "choose by prefix and suffix: the two sides may differ in their tags"
        ),
    ),
    "deletes of whatever has the key by tags": (
        rules(f"{ONE}, whereTags: {{a: x}}, ownership: all"),
        (
            'tandem:rules[0].whereTags is {"a": "x"}, and the rule\'s ownership is all: set '
            "ownership to tandem: what is deleted has no tags to tell whether it was meant"
        ),
    ),
    "the same keys by other tags": (
        rules(
            f"{ONE}, whereTags: {{a: x}}",
            "name: two, source: a, targets: [b], whereTags: {a: y}",
        ),
        f'tandem:rules[1].targets[0] is "b", to which rules[0] writes every key too: {RIVAL_FIX}',
    ),
    "both ways to two targets": (
        rules("name: one, source: a, targets: [b, c], twoWay: true"),
        "tandem:rules[0].twoWay is true, and the rule has 2 targets: name one target, and no more",
    ),
    "both ways without versions": (
        (
            "sites: {a: {server: source}, b: {server: target, versioning: false}}\n"
            "rules: [{name: one, source: a, targets: [b], twoWay: true}]"
        ),
        (
            "tandem:rules[0].twoWay is true, and the site b has no versioning: "
            "set sites.b.versioning to true, or go one way"
        ),
    ),
    "versions that there are not": (
        rules(f"{ONE}, versions: newest"),
        'tandem:rules[0].versions is "newest": use latest or all',
    ),
    "a number of versions": (
        rules(f"{ONE}, versions: 3"),
        "tandem:rules[0].versions is 3: use latest or all",
    ),
    "all versions both ways": (
        rules(f"{ONE}, versions: all, twoWay: true"),
        (
            'tandem:rules[0].versions is "all", and the rule goes both ways: '
            "use latest, or go one way"
        ),
    ),
    "all versions where certain tags are": (
        rules(f"{ONE}, versions: all, whereTags: {{keep: forever}}"),
        (
            'tandem:rules[0].versions is "all", and the rule has whereTags: '
            "use latest, or leave whereTags out"
        ),
    ),
    "all versions of a site that keeps none": (
        (
            "sites: {a: {server: source, versioning: false}, b: {server: target}}\n"
            "rules: [{name: one, source: a, targets: [b], versions: all}]"
        ),
        (
            'tandem:rules[0].versions is "all", and the site a has no versioning: '
            "set sites.a.versioning to true, or use latest"
        ),
    ),
    "groups of all versions": (
        rules(f"{ONE}, versions: all, groups: [{{index: '*.m'}}]"),
        (
            'tandem:rules[0].versions is "all", and the rule has groups: '
            "use latest, or leave groups out"
        ),
    ),
    "groups that are no list": (
        rules(f"{ONE}, groups: '*.manifest'"),
        (
            'tandem:rules[0].groups is "*.manifest": '
            "use a list of patterns, such as [{index: '*/_SUCCESS'}]"
        ),
    ),
    "a pattern where a group belongs": (
        rules(f"{ONE}, groups: ['*.manifest']"),
        'tandem:rules[0].groups[0] is "*.manifest": use a mapping with the keys index, up',
    ),
    "a group without an index": (
        rules(f"{ONE}, groups: [{{up: 1}}]"),
        f"tandem:rules[0].groups[0].index is missing: use {PATTERN}",
    ),
    "an unknown key of a group": (
        rules(f"{ONE}, groups: [{{index: '*.m', members: '*'}}]"),
        "tandem:rules[0].groups[0].members is unknown: use one of index, up",
    ),
    "a pattern without a letter": (
        rules(f"{ONE}, groups: [{{index: ''}}]"),
        f'tandem:rules[0].groups[0].index is "": use {PATTERN}',
    ),
    "a pattern of stars": (
        rules(f"{ONE}, groups: [{{index: '**'}}]"),
        (
            'tandem:rules[0].groups[0].index is "**": '
            f"it matches every key, and an index needs others to wait for: use {PATTERN}"
        ),
    ),
    "a pattern that is a number": (
        rules(f"{ONE}, groups: [{{index: 7}}]"),
        f"tandem:rules[0].groups[0].index is 7: use {PATTERN}",
    ),
    "a pattern that is too long": (
        rules(f"{ONE}, groups: [{{index: {'m' * 513}}}]"),
        f'tandem:rules[0].groups[0].index is "{"m" * 58}…: use at most 512 bytes, not 513',
    ),
    "a group that reaches down": (
        rules(f"{ONE}, groups: [{{index: '*.m', up: -1}}]"),
        "tandem:rules[0].groups[0].up is -1: use a whole number from 0 to 1024",
    ),
    "a pattern of all that the rule covers": (
        rules(f"{ONE}, prefix: logs/, groups: [{{index: 'logs/*'}}]"),
        (
            'tandem:rules[0].groups[0].index is "logs/*", which fits every key of the rule '
            '(keys like "logs/…"): leave some for an index to wait for'
        ),
    ),
    "a pattern outside the rule's prefix": (
        rules(f"{ONE}, prefix: logs/, groups: [{{index: 'table/*.m'}}]"),
        (
            'tandem:rules[0].groups[0].index is "table/*.m", which fits no key of the rule '
            '(keys like "logs/…"): use a pattern that fits some'
        ),
    ),
    "a pattern outside the rule's suffix": (
        rules(f"{ONE}, suffix: .gz, groups: [{{index: '*.manifest'}}]"),
        (
            'tandem:rules[0].groups[0].index is "*.manifest", which fits no key of the rule '
            '(keys like "….gz"): use a pattern that fits some'
        ),
    ),
    "a pattern twice": (
        rules(f"{ONE}, groups: [{{index: '*.m'}}, {{index: '*.m', up: 1}}]"),
        'tandem:rules[0].groups[1].index is "*.m" once more: give each pattern once',
    ),
    "one way more than both ways": (
        rules(f"{ONE}, twoWay: true", "name: two, source: c, targets: [a]"),
        f'tandem:rules[1].targets[0] is "a", to which rules[0] writes every key too: {RIVAL_FIX}',
    ),
    "a loop of two": (
        rules(ONE, "name: two, source: b, targets: [c, a]"),
        (
            'tandem:rules[1].targets[1] is "a", which closes a loop for every key (a → b → a): '
            f"{AFFIX_FIX}"
        ),
    ),
    "a loop of two where prefix and suffix meet": (
        rules(f"{ONE}, prefix: logs/", "name: two, source: b, targets: [a], suffix: .gz"),
        (
            'tandem:rules[1].targets[0] is "a", which closes a loop for keys like "logs/….gz" '
            f"(a → b → a): {AFFIX_FIX}"
        ),
    ),
    "a loop of three": (
        rules(
            f"{ONE}, prefix: lo",
            "name: two, source: b, targets: [c]",
            "name: three, source: c, targets: [a], prefix: logs/",
        ),
        (
            'tandem:rules[2].targets[0] is "a", which closes a loop for keys like "logs/…" '
            f"(a → b → c → a): {AFFIX_FIX}"
        ),
    ),
    "two sources for the same keys": (
        rules("name: one, source: a, targets: [c]", "name: two, source: b, targets: [c]"),
        f'tandem:rules[1].targets[0] is "c", to which rules[0] writes every key too: {RIVAL_FIX}',
    ),
    "one source twice for some keys": (
        rules(ONE, "name: two, source: a, targets: [c, b], prefix: new/, deletes: keep"),
        (
            'tandem:rules[1].targets[1] is "b", to which rules[0] writes keys like "new/…" too: '
            f"{RIVAL_FIX}"
        ),
    ),
    "no worker": (
        f"{GOOD}\nlocal: {{workers: 0}}",
        "tandem:local.workers is 0: use a whole number from 1 to 64",
    ),
    "too many slots": (
        f"{GOOD}\nlocal: {{slots: 257}}",
        "tandem:local.slots is 257: use a whole number from 1 to 256",
    ),
    "half a worker": (
        f"{GOOD}\nlocal: {{workers: 1.5}}",
        "tandem:local.workers is 1.5: use a whole number from 1 to 64",
    ),
    "a privileged port": (
        f"{GOOD}\nlocal: {{ports: {{source: 80}}}}",
        f"tandem:local.ports.source is 80: use {FREE_PORT}",
    ),
    "a port that there is not": (
        f"{GOOD}\nlocal: {{ports: {{nats: 65536}}}}",
        f"tandem:local.ports.nats is 65536: use {FREE_PORT}",
    ),
    "a port twice": (
        f"{GOOD}\nlocal: {{ports: {{source: 9000, targetConsole: 9000}}}}",
        (
            "tandem:local.ports.targetConsole is 9000, and so is source: "
            "use a port of its own, or leave it out to have a free one found"
        ),
    ),
}


@pytest.mark.parametrize(("text", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_in_one_line(text: str, line: str):
    assert mistakes(text) == [line]


@pytest.mark.parametrize("stack", ["My-Stack", "a.b", "x" * 31, "-dev"])
def test_a_stacks_name_must_make_buckets_and_streams(stack: str):
    assert mistakes(GOOD, stack) == [
        f'the stack\'s name is "{stack}": use 1 to 30 {PLAIN} (`pulumi stack rename`)'
    ]


def test_all_mistakes_of_a_file_are_told_in_one_go():
    text = """
        topology: moon
        sites: {a: {server: source}, b: {server: target, bucket: B}, c: {server: target}}
        rules:
          - {name: one, source: a, targets: [c]}
          - {name: two, source: c, targets: [a, d]}
        local: {workers: many}
    """
    with pytest.raises(SettingsError) as caught:
        parse(config(text), stack="dev")
    assert str(caught.value) == "\n".join(
        [
            "5 mistakes in the settings of stack dev; nothing was changed",
            '  tandem:topology is "moon": use local',
            '  tandem:sites.b.bucket is "B": use 3 to 63 characters',
            '  tandem:local.workers is "many": use a whole number from 1 to 64',
            '  tandem:rules[1].targets[1] is "d", which is no site: use one of a, b, c',
            (
                '  tandem:rules[1].targets[0] is "a", which closes a loop for every key '
                f"(a → c → a): {AFFIX_FIX}"
            ),
        ]
    )


def test_pulumi_shows_the_mistakes_without_a_traceback():
    assert issubclass(SettingsError, pulumi.RunError)


def test_what_is_secret_appears_in_no_message():
    text = rules("name: hush, source: a, targets: [hush, a], prefix: 7, suffix: [hush]")
    with pytest.raises(SettingsError) as caught:
        parse(config(text), stack="dev", secret=["tandem:rules"])
    assert set(caught.value.lines) == {
        f"tandem:rules[0].{key} has a secret value that will not do: see docs/settings.md"
        for key in ("prefix", "suffix")
    }


def test_keys_of_other_programs_are_let_be():
    settings = parse({**config(GOOD), "aws:region": "eu-west-1", "pulumi:tags": "{}"}, stack="dev")
    assert settings.stack == "dev"


def test_a_project_of_another_name_keeps_its_settings_under_it():
    renamed = {key.replace("tandem:", "mirror:"): value for key, value in config(GOOD).items()}
    assert parse(renamed, stack="dev", project="mirror") == parse(config(GOOD), stack="dev")


def test_the_example_is_the_pair_that_the_readme_shows():
    text = (ROOT / "stacks" / "Pulumi.local.yaml").read_text(encoding="utf-8")
    settings = parse(config(yaml.safe_dump(yaml.safe_load(text)["config"])), stack="local")
    assert settings.force_destroy
    assert {name: (site.server, site.bucket_name) for name, site in settings.sites.items()} == {
        "source": ("source", "local-source"),
        "target": ("target", "local-target"),
    }
    assert [rule.to_rule() for rule in settings.rules] == [
        Rule(name="everything", source="source", targets=("target",))
    ]


def test_every_key_can_be_set():
    settings = parse(
        config("""
            topology: local
            forceDestroy: true
            sites:
              a: {server: source, bucket: photos, adopt: true, versioning: false}
              b: {server: target}
            rules:
              - {name: one, source: a, targets: [b], prefix: x/, suffix: .jpg, deletes: keep,
                 ownership: all, parts: source, tags: false, targetPrefix: y/,
                 groups: [{index: "*/list.jpg"}, {index: "x/*.m.jpg", up: 2}]}
              - {name: two, source: b, targets: [a], prefix: z/, whereTags: {project: x, year: "7"}}
            local:
              workers: 64
              slots: 1
              ports: {source: 9000, sourceConsole: 9001, target: 9002, targetConsole: 9003,
                      nats: 4222, service: 8080}
        """),
        stack="dev",
    )
    assert settings.sites["a"].model_dump() == {
        "server": "source",
        "bucket_name": "photos",
        "adopt": True,
        "versioning": False,
    }
    assert settings.sites["b"].bucket_name == "dev-b"
    assert settings.rules[0].to_rule() == Rule(
        name="one",
        source="a",
        targets=("b",),
        prefix="x/",
        suffix=".jpg",
        deletes="keep",
        ownership="all",
        parts="source",
        tags=False,
        target_prefix="y/",
        groups=(Group("*/list.jpg"), Group("x/*.m.jpg", up=2)),
    )
    assert settings.rules[1].to_rule() == Rule(
        name="two",
        source="b",
        targets=("a",),
        prefix="z/",
        where_tags={"project": "x", "year": "7"},
    )
    assert settings.local.ports.source_console == 9001
    assert isinstance(settings, StackSettings)


@pytest.mark.parametrize(
    ("told", "every"),
    [("10s", 10), ("90m", 5400), ("30d", 2_592_000), ("off", 0), ("0", 0), ("false", 0)],
)
def test_an_interval_is_seconds_to_the_replicator(told: str, every: float):
    settings = parse(config(f"{GOOD}\nreconcile: {{every: {told}, thorough: true}}"), stack="dev")
    assert settings.reconcile.to_reconcile() == Reconcile(every, thorough=True)


def test_without_a_word_about_it_the_replicator_reconciles_every_hour():
    assert (
        parse(config(GOOD), stack="dev").reconcile.to_reconcile() == Reconcile() == Reconcile(3600)
    )


def test_a_sweep_is_seconds_to_the_replicator():
    told = parse(config(f"{GOOD}\nsweep: {{every: 12h, olderThan: 7d}}"), stack="dev").sweep
    assert told.to_sweep() == Sweep(43_200, older_than=604_800)
    assert parse(config(f"{GOOD}\nsweep: {{every: off}}"), stack="dev").sweep.to_sweep().every == 0
    assert parse(config(GOOD), stack="dev").sweep.to_sweep() == Sweep() == Sweep(86_400, 86_400)


def test_a_rules_settings_are_the_replicators_own():
    told = RuleSettings(name="one", source="a", targets=("b",))
    assert told.to_rule() == Rule("one", "a", ("b",))
    assert set(RuleSettings.model_fields) == {field.name for field in dataclasses.fields(Rule)}


@pytest.mark.parametrize(
    "told",
    [
        (f"{ONE}, prefix: x/", "name: two, source: b, targets: [a], prefix: y/"),
        (f"{ONE}, suffix: .a", "name: two, source: b, targets: [a], suffix: .b"),
        (f"{ONE}, prefix: x", "name: two, source: c, targets: [b], prefix: y"),
        ("name: one, source: a, targets: [b, c]",),
        (ONE, "name: two, source: b, targets: [c]"),
        (
            f"{ONE}, targetPrefix: from-a/",
            "name: two, source: c, targets: [b], targetPrefix: from-c/",
        ),
        (
            f"{ONE}, prefix: in/, targetPrefix: work/",
            "name: two, source: b, targets: [a], prefix: work/, targetPrefix: out/",
        ),
        (
            f"{ONE}, prefix: a/, targetPrefix: from-a/",
            "name: two, source: b, targets: [a], prefix: b/, targetPrefix: from-b/",
        ),
        (f"{ONE}, prefix: a/b/, targetPrefix: '', twoWay: true",),
        (
            f"{ONE}, whereTags: {{a: x}}, targetPrefix: x/",
            "name: two, source: a, targets: [b], whereTags: {a: y}, targetPrefix: y/",
        ),
    ],
    ids=[
        *("there and back by prefix", "by suffix", "fan-in by prefix", "fan-out", "chain"),
        *("fan-in by target prefix", "round once by other names", "there and back by other names"),
        *("both ways by other names", "by tags to other names"),
    ],
)
def test_rules_that_share_no_key_may_meet(told: tuple[str, ...]):
    assert len(parse(config(rules(*told)), stack="dev").rules) == len(told)


@pytest.mark.parametrize(
    "name", ["abc", "a.b-c", "1" * 63, "192.168.5", "local-source", "xn-a", "mrap", "a.b.c.d"]
)
def test_a_good_bucket_name_passes(name: str):
    assert names.bucket_fault(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "", "a" * 64, "ab\n", "abc\n", "Abc", "a/b", "äbc", ".abc", "abc.", "-abc", "sthree-x",
        "amzn-s3-demo-x", "x-s3alias", "x.mrap", "x--x-s3", "x--table-s3", "a b",
    ],
)  # fmt: skip
def test_a_bad_bucket_name_does_not(name: str):
    assert names.bucket_fault(name)


# Of prefixes and suffixes of two letters at most, all that can happen happens in keys of four; to
# be rewritten by several rules in turn a key needs a few letters more.
EVERY_KEY = ["".join(letters) for size in range(1, 8) for letters in product("ab", repeat=size)]
AFFIXES = st.text("ab", max_size=2)
TARGET_PREFIXES = st.none() | AFFIXES
# What has gone so many steps goes on for ever: the longest key shrinks no more often.
FOR_EVER = 100


def rule(
    source: str,
    targets: tuple[str, ...],
    prefix: str,
    suffix: str,
    target_prefix: str | None = None,
) -> Rule:
    return Rule("r", source, targets, prefix=prefix, suffix=suffix, target_prefix=target_prefix)


@given(AFFIXES, AFFIXES, TARGET_PREFIXES, AFFIXES, AFFIXES, TARGET_PREFIXES)
def test_rules_overlap_when_some_key_is_written_by_both(
    p1: str, s1: str, t1: str | None, p2: str, s2: str, t2: str | None
):
    one, other = rule("a", ("b",), p1, s1, t1), rule("a", ("b",), p2, s2, t2)
    written = [
        {each.target_key(key) for key in EVERY_KEY if each.covers(key)} for each in (one, other)
    ]
    assert conflicts.overlap(one, other) == bool(written[0] & written[1])


def goes_on(many: list[Rule], site: str, key: str) -> bool:
    """Tell whether something is replicated on and on once a key is written at a site."""
    frontier, steps = {(site, key)}, 0
    while frontier and steps < FOR_EVER and len(frontier) < FOR_EVER:
        frontier = {
            (target, one.target_key(there))
            for at, there in frontier
            for one in many
            if one.source == at and one.covers(there)
            for target in one.targets
            if target != at
        }
        steps += 1
    return bool(frontier)


def are_rivals(many: list[Rule]) -> bool:
    written = [
        (target, one.target_key(key))
        for one in many
        for target in one.targets
        if target != one.source
        for key in EVERY_KEY
        if one.covers(key)
    ]
    return len(set(written)) < len(written)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.builds(
            rule,
            st.sampled_from("wxyz"),
            st.lists(st.sampled_from("wxyz"), min_size=1, max_size=2, unique=True).map(tuple),
            AFFIXES,
            AFFIXES,
            TARGET_PREFIXES,
        ),
        max_size=4,
    )
)
def test_loops_and_rivals_are_found_when_some_key_has_one(many: list[Rule]):
    found = list(conflicts.of_rules(dict(enumerate(many)), None))
    loops = any(
        goes_on(many, site, key) for site in {one.source for one in many} for key in EVERY_KEY
    )
    assert any("closes a loop" in mistake.state for mistake in found) == loops
    assert any("writes" in mistake.state for mistake in found) == are_rivals(many)


PATTERNS = st.text("ab*?", min_size=1, max_size=3)


@given(PATTERNS, AFFIXES, AFFIXES)
def test_a_pattern_is_refused_only_where_it_fits_all_or_none(
    pattern: str, prefix: str, suffix: str
):
    one = replace(rule("a", ("b",), prefix, suffix), groups=(Group(pattern),))
    # Where prefix and suffix do not meet: those few keys more or less make no pattern a mistake.
    keys = [key for key in EVERY_KEY if len(key) >= len(prefix + suffix)]
    fits = {one.group(key) is not None for key in keys if one.covers(key)}
    told = "".join(mistake.state for mistake in patterns.of_groups({0: one}))
    assert ("no key" in told) <= (fits == {False})
    assert ("every key" in told) <= (fits == {True})


@given(AFFIXES, AFFIXES, AFFIXES, AFFIXES)
def test_a_pattern_with_one_star_is_refused_wherever_it_fits_all_or_none(
    head: str, tail: str, prefix: str, suffix: str
):
    one = replace(rule("a", ("b",), prefix, suffix), groups=(Group(f"{head}*{tail}"),))
    # Long enough that what lies between the two ends is free.
    keys = [prefix + "".join(middle) + suffix for middle in product("ab", repeat=4)]
    fits = {one.group(key) is not None for key in keys}
    told = "".join(mistake.state for mistake in patterns.of_groups({0: one}))
    assert ("no key" in told) == (fits == {False})
    assert ("every key" in told) == (fits == {True})
