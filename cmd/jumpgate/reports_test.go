package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"jumpgate/gateway/store"
)

func TestWhatPeersReportedIsShown(t *testing.T) {
	server := startRedis(t)
	file := filepath.Join(t.TempDir(), "jumpgate.yaml")
	writeFile(t, file, fmt.Sprintf(`
state_dir: state
redis: %s
sites:
  - wwwroot: https://home.example
    upstream: http://127.0.0.1:8081
    identity: {source: moodle-web}
    peers: [{wwwroot: "https://forum.example"}, {wwwroot: "https://quiet.example"}]
`, server.url()))
	redis, err := store.Open(store.Options{Addr: server.url()})
	if err != nil {
		t.Fatal(err)
	}
	defer redis.Close()
	site, forum := redis.Site(wwwroot(t, "https://home.example")), wwwroot(t, "https://forum.example")
	if err := site.SetCourses(t.Context(), "ada", forum, []store.Course{
		{ID: "2", FullName: "Deep\x1b[2J course", ShortName: "DEEP1", Category: "Häuser", Role: "Student"},
	}); err != nil {
		t.Fatal(err)
	}
	if err := site.AppendLog(t.Context(), forum, []store.LogRecord{
		{Time: 1795336536, Username: "ada", IP: "192.0.2.7", Course: "Deep course", Module: "forum", Action: "view", URL: "\x1b]0;x\a"},
		{Time: 1795336537, Username: "bob"},
	}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args string
		want []string // lines, or beginnings of them
		deny string
	}{
		{"session courses ada", []string{"PEER ", "https://forum.example  "}, "\x1b"},
		{"session courses ada --json", []string{`{"peer":"https://forum.example","reported":"`}, "\x1b"},
		{"session courses bob", []string{`no peer has reported a course of "bob"`}, ""},
		{"session courses bob --json", nil, ""},
		{"mnet log forum.example", []string{"TIME ", `2026-11-22T08:35:36Z  "ada"    "192.0.2.7"  "Deep course"  "forum"  "view"  "\x1b]0;x\a"  ""`, `2026-11-22T08:35:37Z  "bob"`}, "\x1b"},
		{"mnet log forum.example -n 1 --json", []string{`{"received":"`}, `"ada"`},
		{"mnet log quiet.example", []string{"https://quiet.example has reported nothing"}, ""},
		{"mnet log quiet.example --json", nil, ""},
	} {
		t.Run(test.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			terminal := &terminal{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
			if code := terminal.run(append(strings.Fields(test.args), "-c", file)); code != 0 {
				t.Fatalf("exit code %d: %s", code, &stderr)
			}
			lines := strings.Split(strings.TrimSuffix(stdout.String(), "\n"), "\n")
			if stdout.Len() == 0 {
				lines = nil
			}
			if len(lines) != len(test.want) || test.deny != "" && strings.Contains(stdout.String(), test.deny) {
				t.Fatalf("got:\n%s", &stdout)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("line %d is\n%s\nwant\n%s", i+1, lines[i], want)
				}
			}
		})
	}
}
