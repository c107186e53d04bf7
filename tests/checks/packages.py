"""The Debian packages: made, examined by lintian, installed, used, removed without a trace.

Usage: packages.py BUILD SOURCE VERSION COMPONENT…

They are installed by dpkg into a copy of this system that is seen only here: an overlay over its root, which holds neither
the build nor the sources. Where that is not allowed, the exit code is 77 once lintian is content; without lintian, at once.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

# What dpkg and the loader write for themselves.
THEIRS = ("var/lib/dpkg", "var/log", "var/cache/ldconfig", "etc/ld.so.cache", "var/cache/man", "tmp", "root", "run", "dev", "proc", "sys", "mnt")


def run(*command, **options):
    print("+", *command, flush=True)
    return subprocess.run(command, check=True, timeout=options.pop("timeout", 300), **options)


def make(build):
    out = pathlib.Path(build) / "packages"
    shutil.rmtree(out, ignore_errors=True)
    run("cpack", "-G", "DEB", "--config", f"{build}/CPackConfig.cmake", "-B", str(out), cwd=build, timeout=1500, stdout=subprocess.DEVNULL)
    return sorted(out.glob("*.deb"))


def examine(debs):
    """lintian's errors are failures; its warnings are shown."""
    run("lintian", "--allow-root", "--fail-on", "error", "--suppress-tags", "bad-distribution-in-changes-file", *map(str, debs))


def remains(upper, lower):
    """What is there now and was not before; a file that was removed is a device in an overlay."""
    found = []
    for folder, folders, files in os.walk(upper):
        relative = os.path.relpath(folder, upper)
        folders[:] = [name for name in folders if os.path.normpath(f"{relative}/{name}") not in THEIRS]
        for name in [*files, *folders]:
            path = os.path.normpath(f"{relative}/{name}")
            if path in THEIRS or path.endswith(".pyc") or name == "__pycache__":
                continue
            changed = name in files and os.path.isfile(f"{upper}/{path}")
            if changed or not os.path.lexists(f"{lower}/{path}"):
                found.append(path)
    return found


def install_and_use(debs, source, version, components):
    """Runs in a mount namespace of its own, as root."""
    work = tempfile.mkdtemp(prefix="caller-packages-")
    run("mount", "-t", "tmpfs", "tmpfs", work)
    for name in ("upper", "work", "root"):
        os.mkdir(f"{work}/{name}")
    root = f"{work}/root"
    run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={work}/upper,workdir={work}/work", root)
    shutil.copytree(pathlib.Path(source) / "tests" / "consumer", f"{work}/consumer")
    shutil.copy(pathlib.Path(source) / "tests" / "checks" / "packages_use.py", f"{work}/consumer")
    for deb in debs:
        shutil.copy(deb, f"{work}/consumer")
    for name in ("dev", "proc", "sys"):
        run("mount", "--rbind", f"/{name}", f"{root}/{name}")
    run("mount", "-t", "tmpfs", "tmpfs", f"{root}/tmp")
    os.chmod(f"{root}/tmp", 0o1777)
    shutil.copytree(f"{work}/consumer", f"{root}/tmp/consumer")
    if os.path.isdir(root + source):  # on this file system; the installed kernel must not find it
        run("mount", "-t", "tmpfs", "tmpfs", root + source)

    def inside(*command, **options):
        run("chroot", root, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", *command, **options)

    names = [deb.name.split("_")[0] for deb in debs]
    inside("dpkg", "-i", *[f"/tmp/consumer/{deb.name}" for deb in debs])
    # As somebody who has nothing but what the system has.
    os.mkdir(f"{root}/tmp/home")
    os.chown(f"{root}/tmp/home", 65534, 65534)
    inside("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/tmp/home", "/usr/bin/python3",
           "/tmp/consumer/packages_use.py", version, *components, timeout=1500)  # fmt: skip
    inside("dpkg", "--purge", *reversed(names))
    left = remains(f"{work}/upper", "/")
    print("left behind:", left)
    return 1 if left else 0


def main(build, source, version, *components):
    if build == "--inside":
        debs = [pathlib.Path(name) for name in os.environ["CALLER_DEBS"].split(":")]
        return install_and_use(debs, source, version, components)
    if not shutil.which("lintian"):
        print("lintian is not installed")
        return 77
    debs = make(build)
    print(*[f"{deb.name}: {deb.stat().st_size >> 10} KiB" for deb in debs], sep="\n")
    examine(debs)
    namespace = ["unshare", "--mount", "--propagation", "private"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    probe = "d=$(mktemp -d) && mount -t tmpfs t $d && mkdir $d/u $d/w $d/r && mount -t overlay o -o lowerdir=/,upperdir=$d/u,workdir=$d/w $d/r; s=$?; umount $d; rmdir $d; exit $s"
    if subprocess.run([*namespace, "sh", "-c", probe], check=False, capture_output=True, timeout=60).returncode != 0:
        print("This system allows no overlay of its root, so the packages were not installed; run the test as root.")
        return 77
    command = [*namespace, sys.executable, __file__, "--inside", source, version, *components]
    return subprocess.run(command, env={**os.environ, "CALLER_DEBS": ":".join(map(str, debs))}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
