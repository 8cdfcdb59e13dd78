"""The Debian package: made from the tree under test, looked into, unpacked, and run from there."""

import glob
import os
import re
import shutil
import subprocess
import tempfile

from harness import API_KEY, ROOT, TestCase, clean_env, main

TREE = os.path.dirname(os.environ.get("PARLEYD") or os.path.join(ROOT, "build", "dev", "parleyd"))


def run(*command, **kw):
    done = subprocess.run(command, capture_output=True, text=True, env=clean_env(), **kw)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


class Package(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="parley-test-")
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        run("cpack", "--config", os.path.join(TREE, "CPackConfig.cmake"), "-B", cls.dir, cwd=cls.dir)
        cls.deb, = glob.glob(os.path.join(cls.dir, "parley_*.deb"))
        cls.root = os.path.join(cls.dir, "root")
        run("dpkg-deb", "-x", cls.deb, cls.root)

    def path(self, name):
        return os.path.join(self.root, name)

    def test_files_are_where_debian_has_them(self):
        listed = set(re.findall(r" \./(\S+[^/\s])$", run("dpkg-deb", "-c", self.deb), re.M))
        want = {"usr/bin/parleyd", "usr/bin/parley", "etc/parley/parley.conf",
                "usr/lib/systemd/system/parley.service", "usr/lib/systemd/system/parley.socket",
                "usr/share/man/man8/parleyd.8.gz", "usr/share/man/man1/parley.1.gz", "usr/share/man/man5/parley.conf.5.gz",
                "usr/share/doc/parley/docs/operations.md", "usr/share/doc/parley/examples/nginx.conf"}
        self.assertEqual(want - listed, set())
        self.assertEqual({name.split("/")[0] for name in listed}, {"usr", "etc"})

    def test_it_says_what_it_needs_and_whose_the_configuration_is(self):
        depends = run("dpkg-deb", "-f", self.deb, "Depends")
        for library in ("libwebsockets17", "libwebsockets-evlib-uv", "libuv1", "libhiredis0.14", "libjwt0", "libc6", "adduser"):
            self.assertRegex(depends, rf"\b{re.escape(library)}\b")
        control = os.path.join(self.dir, "control")
        run("dpkg-deb", "-e", self.deb, control)
        with open(os.path.join(control, "conffiles")) as f:
            self.assertEqual(f.read(), "/etc/parley/parley.conf\n")
        for script in ("postinst", "prerm", "postrm"):
            self.assertTrue(os.access(os.path.join(control, script), os.X_OK))
            run("sh", "-n", os.path.join(control, script))

    def test_the_configuration_is_good_once_it_has_a_key(self):
        config = ("--config", self.path("etc/parley/parley.conf"))
        done = subprocess.run([self.path("usr/bin/parleyd"), *config, "--check-config"], capture_output=True, env=clean_env())
        self.assertEqual(done.returncode, 2)
        run(self.path("usr/bin/parleyd"), *config, "--set", f"auth.api_key={API_KEY}", "--check-config")
        self.assertRegex(run(self.path("usr/bin/parley"), "--version"), r"^parley \d")

    def test_the_units_are_good(self):
        # The man pages that it names can only be looked up where they are installed.
        for unit in ("parley.service", "parley.socket"):
            path = self.path("usr/lib/systemd/system/" + unit)
            with open(path) as f:
                text = f.read()
            self.assertNotIn("#", text)
            with open(path, "w") as f:
                f.write(text.replace("/usr/bin/parleyd", self.path("usr/bin/parleyd")).replace("Documentation=", "#"))
        done = subprocess.run(["systemd-analyze", "verify", path, path.replace(".socket", ".service")], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_the_service_may_do_little(self):
        unit = self.path("usr/lib/systemd/system/parley.service")
        said = run("systemd-analyze", "security", "--offline=true", "--threshold=20", unit)
        self.assertRegex(said, r"Overall exposure level for parley\.service: [01]\.\d OK")

    def test_the_manual_pages_can_be_read(self):
        for page, word in (("man8/parleyd.8", "SIGHUP"), ("man1/parley.1", "publish"), ("man5/parley.conf.5", "trusted_proxies")):
            done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", self.path(f"usr/share/man/{page}.gz")],
                                  capture_output=True, text=True)
            self.assertEqual(done.stderr, "")
            self.assertIn(word, done.stdout)


class Elsewhere(TestCase):
    def test_an_installation_elsewhere_names_its_own_paths(self):
        with tempfile.TemporaryDirectory(prefix="parley-test-") as d:
            subprocess.run(["cmake", "--install", TREE, "--prefix", "/opt/parley"], check=True, capture_output=True,
                           env={**clean_env(), "DESTDIR": d})
            with open(os.path.join(d, "opt/parley/lib/systemd/system/parley.service")) as f:
                self.assertIn("ExecStart=/opt/parley/bin/parleyd --config /opt/parley/etc/parley/parley.conf\n", f.read())
            self.assertTrue(os.path.exists(os.path.join(d, "opt/parley/etc/parley/parley.conf")))


if __name__ == "__main__":
    main()
