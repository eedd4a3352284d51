package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// deaf is a reader that has gone, such as head.
type deaf struct{}

func (deaf) Write([]byte) (int, error) { return 0, errors.New("nobody reads") }

// TestCommandsAreRecordedEvenIfNobodyReadsWhatTheySay runs commands into a pipe
// that is closed.
func TestCommandsAreRecordedEvenIfNobodyReadsWhatTheySay(t *testing.T) {
	dir := t.TempDir()
	file, peers := filepath.Join(dir, "jumpgate.yaml"), filepath.Join(dir, "peers.d")
	for name, text := range map[string]string{
		file: fmt.Sprintf(`
state_dir: %s
sites:
  - {wwwroot: "https://home.test", upstream: "http://127.0.0.1:1", identity: {source: moodle-web}, peers_dir: %s}
`, filepath.Join(dir, "state"), peers),
		filepath.Join(peers, "forum.yaml"): "wwwroot: https://forum.test\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"link", "-c", file, "--sign", "--home", "https://forum.test", "--user", "ada", "/course/"},
		{"key", "rotate", "-c", file},
		{"peer", "remove", "--yes", "-c", file, "https://forum.test"},
	} {
		term := &terminal{ctx: t.Context(), stdin: strings.NewReader(""), stdout: deaf{}, stderr: io.Discard}
		if code := term.run(args); code != 1 {
			t.Errorf("%q ended with %d", args, code)
		}
	}
	said := ask(t, "audit", "query", "-c", file)
	for _, want := range []string{
		`key         -       -                 -             -  step="made"  detail="SHA256:`,
		`ada           https://forum.test  step="link --sign"  target="/course/"  link="`,
		`step="key rotate"  detail="SHA256:`,
		`https://forum.test  step="peer remove"`,
	} {
		if strings.Count(said, want) != 1 {
			t.Errorf("not once: %s\n%s", want, said)
		}
	}
}
