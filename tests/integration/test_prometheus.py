"""conf/prometheus.yml, prometheus-rules.yml and grafana-dashboard.json, tried: by promtool, by series made up for each alert,
and by a real Prometheus that watches a real node on a real Redis."""

import json
import os
import re
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

from harness import ROOT, Server, TestCase, event, main, until
from pages import Child, Redis, free_port

CONF = os.path.join(ROOT, "conf")
NAME = re.compile(r"\b((?:realtime|process)_\w+|up)\b(?=[{\[)\s/]|$)")


def read(*path):
    with open(os.path.join(ROOT, *path)) as f:
        return f.read()


def promtool(*args, cwd=CONF):
    done = subprocess.run(["promtool", *args], cwd=cwd, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def rules():
    """(alert, expression, runbook) of every rule, as written: no YAML library is needed for a file of our own."""
    return re.findall(r"- alert: (\w+)\n\s+expr: \|\n\s+(.*)\n(?:.*\n)*?\s+runbook: (.*)", read("conf", "prometheus-rules.yml"))


def panels():
    """(title, expression) of every query of the dashboard, as Grafana sends it."""
    for panel in json.loads(read("conf", "grafana-dashboard.json"))["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")


class Static(TestCase):
    def test_promtool_has_nothing_to_say(self):
        for args in (("check", "rules", "prometheus-rules.yml"), ("check", "config", "prometheus.yml")):
            status, text = promtool(*args)
            self.assertEqual(status, 0, text)

    def test_every_alert_has_its_place_in_the_runbook(self):
        page = read("docs", "operations.md")
        self.assertEqual(len(rules()), read("conf", "prometheus-rules.yml").count("- alert:"))
        for alert, _, runbook in rules():
            self.assertEqual(runbook, f"docs/operations.md#{alert.lower()}")
            self.assertRegex(page, rf"(?m)^### {alert}$")
        self.assertEqual(re.findall(r"(?m)^### (Parley\w+)$", page), [alert for alert, *_ in rules()])

    def test_nothing_is_counted_that_the_server_does_not_count(self):
        known = set(re.findall(r'^PL_METRIC\(\w+, \w+, "(\w+)"', read("server", "base", "metrics.def"), re.M)) | {"up"}
        for where, expression, *_ in [*rules(), *panels()]:
            for name in NAME.findall(expression):
                self.assertIn(re.sub(r"_(bucket|sum|count)$", "", name), known, where)

    def test_panels_do_not_overlap(self):
        taken = set()
        for panel in json.loads(read("conf", "grafana-dashboard.json"))["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            self.assertLessEqual(at["x"] + at["w"], 24)
            self.assertFalse(cells & taken, panel["title"])
            taken |= cells


def histogram(metric, fast, slow, **labels):
    """A histogram of which `fast` observations a minute are below 1 ms, and `slow` above 10 s."""
    def labelled(le):
        return ",".join(f'{k}="{v}"' for k, v in {**labels, "instance": "n1", "job": "parley", "le": le}.items())
    return [(f"{metric}_bucket{{{labelled(le)}}}", f"0+{n}x180") for le, n in
            (("0.001", fast), ("10", fast), ("+Inf", fast + slow))]


def one(series, well, ill):
    return [(series, well)], [(series, ill)]


N1 = 'instance="n1",job="parley"'
# Each alert: series with which it must be silent, and series with which it must fire, three hours on.
CASES = {
    "ParleyDown": one(f"up{{{N1}}}", "1x180", "0x180"),
    "ParleyRestarts": one(f"process_start_time_seconds{{{N1}}}", "5x180", "0+60x180"),
    "ParleyUnavailable": one(f'realtime_unavailable_total{{{N1},reason="bus"}}', "0+1x180", "0+60x180"),
    "ParleyRefusesConnections": one(f'realtime_refused_total{{{N1},limit="connections"}}', "7x180", "0+1x180"),
    "ParleyNearFileLimit": ([(f"process_max_fds{{{N1}}}", "1000x180"), (f"realtime_connections{{{N1}}}", "700x180")],
                            [(f"process_max_fds{{{N1}}}", "1000x180"), (f"realtime_connections{{{N1}}}", "900x180")]),
    "ParleyDeliverySlow": (histogram("realtime_delivery_latency_seconds", 1000, 1, transport="websocket"),
                           histogram("realtime_delivery_latency_seconds", 1000, 100, transport="websocket")),
    "ParleyLoopLags": (histogram("realtime_loop_lag_seconds", 59, 1), histogram("realtime_loop_lag_seconds", 30, 30)),
    "ParleyPublishFails": ([(f"realtime_publish_errors_total{{{N1}}}", "0+1x180"),
                            (f'realtime_events_published_total{{{N1},source="backend"}}', "0+100x180")],
                           [(f"realtime_publish_errors_total{{{N1}}}", "0+10x180"),
                            (f'realtime_events_published_total{{{N1},source="backend"}}', "0+100x180")]),
    "ParleyCatchups": ([(f'realtime_catchup_required_total{{{N1},reason="trimmed"}}', "0+40x180"),
                        (f'realtime_active_queues{{{N1},transport="websocket"}}', "1000x180")],
                       [(f'realtime_catchup_required_total{{{N1},reason="trimmed"}}', "0+60x180"),
                        (f'realtime_active_queues{{{N1},transport="websocket"}}', "1000x180")]),
    "ParleyFallback": ([(f'realtime_resumes_total{{{N1},from="websocket",to="longpoll"}}', "0+10x180"),
                        (f'realtime_resumes_total{{{N1},from="websocket",to="websocket"}}', "0+100x180")],
                       [(f'realtime_resumes_total{{{N1},from="websocket",to="longpoll"}}', "0+50x180"),
                        (f'realtime_resumes_total{{{N1},from="websocket",to="websocket"}}', "0+100x180")]),
    "ParleyBusDown": one(f"realtime_bus_breaker_state{{{N1}}}", "0x180", "0x178 1 2"),
    "ParleyBusWithoutPubsub": one(f"realtime_bus_feed{{{N1}}}", "2x180", "1x180"),
    "ParleyBusSlow": (histogram("realtime_bus_command_seconds", 1000, 1), histogram("realtime_bus_command_seconds", 1000, 100)),
    "ParleyBusErrors": one(f'realtime_bus_command_errors_total{{{N1},kind="error"}}', "0+1x180", "0+60x180"),
    "ParleyBusMalformed": one(f'realtime_bus_malformed_total{{{N1},kind="raw_event"}}', "7x180", "7x175 8x5"),
    "ParleyNodeBehind": ([('realtime_last_event_id{instance="n1"}', "0+61440000x180"),
                          ('realtime_last_event_id{instance="n2"}', "0+61440000x180")],
                         [('realtime_last_event_id{instance="n1"}', "0+61440000x180"),
                          ('realtime_last_event_id{instance="n2"}', "0+61440000x170 10444800000x10")]),
    "ParleyHistoryForked": one(f"realtime_bus_epochs_total{{{N1}}}", "3x180", "3x175 4x5"),
    "ParleyMemoryGrows": one(f"process_resident_memory_bytes{{{N1}}}", "1000+1x180", "1000x120 2000+1000x60"),
    "ParleyBusy": one(f"process_cpu_seconds_total{{{N1}}}", "0+30x180", "0+57x180"),
    "ParleyVersionsDiffer": ([('realtime_build_info{instance="n1",version="1"}', "1x180")],
                             [('realtime_build_info{instance="n1",version="1"}', "1x180"),
                              ('realtime_build_info{instance="n2",version="2"}', "1x180")]),
    "ParleySpansLost": one(f'realtime_trace_spans_total{{{N1},result="dropped"}}', "9x180", "0+60x180"),
}


class EachAlert(TestCase):
    """promtool runs the rules over series that are made up."""

    def firing(self, series):
        """The alerts that fire after three hours of these series."""
        alerts = [alert for alert, *_ in rules()]
        test = {"rule_files": [os.path.join(CONF, "prometheus-rules.yml")], "evaluation_interval": "30s", "tests": [{
            "interval": "1m", "input_series": [{"series": s, "values": v} for s, v in series],
            "promql_expr_test": [{"expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) > 0', "eval_time": "3h",
                                  "exp_samples": []} for alert in alerts]}]}
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as f:
            json.dump(test, f)
            f.flush()
            _, text = promtool("test", "rules", f.name)
        return set(re.findall(r'expr: "count\(ALERTS\{alertname=\\"(\w+)\\"', text))

    def test_fires_when_it_must_and_not_before(self):
        self.assertEqual(set(CASES), {alert for alert, *_ in rules()})
        for alert, (well, ill) in CASES.items():
            with self.subTest(alert):
                self.assertEqual(self.firing(well), set())
                self.assertEqual(self.firing(ill), {alert})


class Prometheus(Child):
    """With conf/prometheus.yml and the rules, but for targets, intervals and patience."""

    def __init__(self, *targets):
        super().__init__()
        self.port = free_port()
        config = re.sub(r"targets: .*", "targets: " + json.dumps(targets), read("conf", "prometheus.yml"))
        self.write("prometheus.yml", re.sub(r"_interval: \w+", "_interval: 1s", config))
        self.write("prometheus-rules.yml", re.sub(r"( +for:) \w+", r"\1 2s", read("conf", "prometheus-rules.yml")))
        self.command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
                        f"--web.listen-address=127.0.0.1:{self.port}"]

    def write(self, name, text):
        with open(os.path.join(self.dir, name), "w") as f:
            f.write(text)

    def ask(self, path, **query):
        url = f"http://127.0.0.1:{self.port}{path}?" + urllib.parse.urlencode(query)
        with urllib.request.urlopen(url, timeout=10) as answer:
            value = json.load(answer)
        assert value["status"] == "success", value
        return value["data"]

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def query(self, expression):
        return self.ask("/api/v1/query", query=expression)["result"]

    def firing(self):
        return {a["labels"]["alertname"] for a in self.ask("/api/v1/alerts")["alerts"] if a["state"] == "firing"}


class Watching(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.redis = Redis().begin()
        cls.addClassCleanup(cls.redis.stop)
        cls.server = Server(bus__url=cls.redis.url, bus__canary_interval="500ms",
                            server__internal_listen="127.0.0.1:0").start()
        cls.addClassCleanup(cls.server.kill)
        until(lambda: cls.server.get("/readyz", internal=True).status == 200, "the node to be ready")
        cls.prometheus = Prometheus("%s:%d" % cls.server.internal)
        cls.prometheus.start(cls.prometheus.is_ready, "prometheus", 30)
        cls.addClassCleanup(cls.prometheus.stop)
        until(lambda: cls.prometheus.query('up{job="parley"} == 1'), "the node to be watched", 15)

    def test_1_every_metric_named_is_there(self):
        names = set(self.prometheus.ask("/api/v1/label/__name__/values"))
        for where, expression, *_ in [*rules(), *panels()]:
            found = NAME.findall(expression)
            self.assertTrue(found, where)
            for name in found:
                self.assertIn(name, names, where)

    def test_2_every_expression_is_understood_and_the_dashboard_shows_something(self):
        client = self.server.register(7, [42])
        for _ in range(5):
            self.server.api("publish", event([42]), internal=True)
            client.drain(2)
            time.sleep(0.5)
        for _, expression, _ in rules():
            self.prometheus.query(expression)
        empty = [title for title, expression in panels() if not self.prometheus.query(expression)]
        self.assertEqual(empty, [])

    def test_3_all_is_well(self):
        alerts = self.prometheus.ask("/api/v1/rules")["groups"]
        unwell = [(r["name"], r.get("lastError")) for g in alerts for r in g["rules"] if r["health"] == "err"]
        self.assertEqual(unwell, [])
        until(lambda: self.prometheus.firing() <= {"ParleyMemoryGrows"}, "no alert to fire", 10)

    def test_4_a_stopped_redis_is_told(self):
        self.redis.kill()
        until(lambda: "ParleyBusDown" in self.prometheus.firing(), "ParleyBusDown", 20)

    def test_5_a_dead_node_is_told(self):
        self.server.kill()
        until(lambda: "ParleyDown" in self.prometheus.firing(), "ParleyDown", 20)


if __name__ == "__main__":
    main()
