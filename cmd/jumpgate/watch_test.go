package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"jumpgate/gateway/config"
)

func TestAChangeOfPeersFilesIsTakenUpOnceAndWhenItHasSettled(t *testing.T) {
	dir := t.TempDir()
	c := &config.Config{Sites: []*config.Site{{}, {PeersDir: dir}}}
	file := filepath.Join(dir, "a.yaml")
	var w peersWatch
	w.take(c)
	for i, step := range []struct {
		what    string
		change  func()
		changed bool
		soon    bool
	}{
		{"nothing", nil, false, false},
		{"a new file", func() { writeFile(t, file, "wwwroot: ht") }, false, true},
		{"it grows", func() { writeFile(t, file, "wwwroot: https://a.test\n") }, false, true},
		{"it stays", nil, true, false},
		{"it stays, right or wrong", nil, false, false},
		{"a file that is not read", func() { writeFile(t, filepath.Join(dir, ".new-1"), "x") }, false, false},
		{"a change that is taken back", func() { writeFile(t, file+"x", "x") }, false, true},
		{"in the end nothing", func() { remove(t, file+"x") }, false, false},
		{"the same size at another time", func() { setTime(t, file, time.Now().Add(-time.Hour)) }, false, true},
		{"which stays", nil, true, false},
		{"the file goes", func() { remove(t, file) }, false, true},
		{"and stays away", nil, true, false},
		{"the directory goes", func() { remove(t, filepath.Join(dir, ".new-1")); remove(t, dir) }, false, true},
		{"and stays away too", nil, true, false},
	} {
		if step.change != nil {
			step.change()
		}
		changed, next := w.look(c)
		if changed != step.changed || (next == settleTime) != step.soon || next <= 0 {
			t.Errorf("step %d, %s: changed %t, next in %s", i, step.what, changed, next)
		}
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func setTime(t *testing.T, name string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(name, at, at); err != nil {
		t.Fatal(err)
	}
}
