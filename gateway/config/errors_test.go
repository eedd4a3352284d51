package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write testdata/errors.txtar anew")

func TestWhatIsWrongIsShownWithItsPlaceAndAHint(t *testing.T) {
	golden, err := txtar.ParseFile("testdata/errors.txtar")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	updated := &txtar.Archive{Comment: golden.Comment}
	var cases []txtar.File
	for _, f := range golden.Files {
		if strings.HasSuffix(f.Name, ": error") || strings.HasSuffix(f.Name, ": hint") {
			want[f.Name] = string(f.Data)
		} else {
			cases = append(cases, f)
		}
	}
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	testDir(t)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			writeFile(t, "jumpgate.yaml", string(c.Data))
			_, err := Load("jumpgate.yaml")
			if err == nil {
				t.Fatalf("accepted:\n%s", c.Data)
			}
			message, hint := describe(err)
			updated.Files = append(updated.Files, c,
				txtar.File{Name: c.Name + ": error", Data: []byte(message)},
				txtar.File{Name: c.Name + ": hint", Data: []byte(hint)})
			if *update {
				return
			}
			if diff := cmp.Diff(want[c.Name+": error"], message); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want[c.Name+": hint"], hint); diff != "" {
				t.Errorf("hint (-want +got):\n%s", diff)
			}
			if hint == "\n" {
				t.Errorf("nothing says what to do")
			}
			if strings.Contains(message+hint, "hunter2") {
				t.Errorf("a secret is shown: %s", message)
			}
		})
	}
	if *update {
		if err := os.WriteFile(cwd+"/testdata/errors.txtar", txtar.Format(updated), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestErrorsCanBeTakenApart(t *testing.T) {
	testDir(t)
	writeFile(t, "jumpgate.yaml", "colour: blue\nsites:\n  - wwwroot: https://idp.example.org\n    upstream: nowhere\n")
	_, err := Load("jumpgate.yaml")
	all, ok := errors.AsType[Errors](err)
	if !ok || len(all) != 2 {
		t.Fatalf("not two errors: %#v", err)
	}
	first, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatal("no *Error inside")
	}
	want := Position{File: "jumpgate.yaml", Line: 1, Column: 1}
	if first.Position != want || first.Message != `unknown field "colour"` || first.Excerpt != "    1 | colour: blue\n      | ^" {
		t.Errorf("got %+v", first)
	}
	if all.Error() != all[0].Error()+"\n"+all[1].Error() {
		t.Errorf("got %q", all.Error())
	}
	if all.Hint() != all[0].Hint()+"; "+all[1].Hint() {
		t.Errorf("got %q", all.Hint())
	}
}

func TestErrorsAreShownInTheOrderOfTheFileAndNotWithoutEnd(t *testing.T) {
	testDir(t)
	var b strings.Builder
	b.WriteString("sites:\n  - wwwroot: https://idp.example.org\n    upstream: http://127.0.0.1:8081\n    peers:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "      - {bogus: %d, wwwroot: 'https://sp%d.example.org'}\n", i, i)
	}
	writeFile(t, "jumpgate.yaml", b.String())
	_, err := Load("jumpgate.yaml")
	all, ok := errors.AsType[Errors](err)
	if !ok || len(all) != maxErrors+1 {
		t.Fatalf("got %d errors", len(all))
	}
	for i, e := range all[:maxErrors] {
		if e.Line != 5+i {
			t.Errorf("error %d is on line %d", i, e.Line)
		}
	}
	if got, want := all[maxErrors].Error(), "jumpgate.yaml: 950 more errors are not shown"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnExcerptShowsWhatItMust(t *testing.T) {
	long := strings.Repeat("x", 500)
	for _, c := range []struct{ name, text, want string }{
		{"the line and a caret", "a: b", "    1 | a: b\n      |    ^"},
		{"tabs above tabs", "a:\tb", "    1 | a:\tb\n      |   \t^"},
		{"characters, not bytes", "ü: é", "    1 | ü: é\n      |    ^"},
		{"no control characters", "a: \x1b[1m", "    1 | a: ?[1m\n      |    ^"},
		{"a part of a long line", "a: " + long, "    1 | a: " + long[:excerptWidth] + "…\n      |    ^"},
		{"no password of a URL", "a: redis://u:secret@h", "    1 | a: redis://u:***@h\n      |    ^"},
		{"no password with signs in it", "a: redis://u:se:c/r@et@h", "    1 | a: redis://u:***@h\n      |    ^"},
		{"no password without scheme", "a: u:secret@h", "    1 | a: u:***@h\n      |    ^"},
		{"no password on its own", "password: secret word", "    1 | password: ***\n      |    ^"},
		{"no secret in a list", "{x: 1, auth: secret, z: 2}", "    1 | {x: 1, auth: ***\n      |    ^"},
		{"no line of a key", "  " + strings.Repeat("Ab+/", 16), "    1 |   ***\n      |    ^"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := place{src: &source{text: []byte(c.text)}, line: 1, column: 4}.excerpt()
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("a caret far to the right", func(t *testing.T) {
		got := place{src: &source{text: []byte(long + "!" + long)}, line: 1, column: 501}.excerpt()
		line, caret, _ := strings.Cut(got, "\n")
		if at := strings.IndexRune(caret, '^'); []rune(line)[at] != '!' {
			t.Errorf("the caret is elsewhere:\n%s", got)
		}
	})
	t.Run("a caret to the right of a secret", func(t *testing.T) {
		got := place{src: &source{text: []byte("{a: 'redis://u:secret@h', b: !}")}, line: 1, column: 30}.excerpt()
		line, caret, _ := strings.Cut(got, "\n")
		if at := strings.IndexRune(caret, '^'); line[at] != '!' {
			t.Errorf("the caret is elsewhere:\n%s", got)
		}
	})
}

func TestLinesEndAsOnAnySystem(t *testing.T) {
	testDir(t)
	for name, end := range map[string]string{"Unix": "\n", "Windows": "\r\n", "old Macs": "\r"} {
		writeFile(t, "jumpgate.yaml", strings.ReplaceAll("\ufeff# one\n\nlisten: here\n", "\n", end)+strings.TrimSpace(minimal))
		_, err := Load("jumpgate.yaml")
		want := "jumpgate.yaml:3:9: \"listen\": \"here\" is not host:port\n    3 | listen: here\n      |         ^"
		if got := fmt.Sprint(err); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestFilesThatAreNoConfigurationAreRefused(t *testing.T) {
	testDir(t)
	writeFile(t, "latin1.yaml", "listen: :8080\nstate_dir: /\xff\n")
	writeFile(t, "huge.yaml", strings.Repeat("# nothing\n", maxConfig/10+1))
	for name, want := range map[string]string{
		"none.yaml":   "none.yaml: cannot read the configuration: no such file or directory",
		".":           ".: cannot read the configuration: not a file",
		"huge.yaml":   "huge.yaml: cannot read the configuration: larger than 8192 KiB",
		"latin1.yaml": "latin1.yaml:2:13: the text is not UTF-8\n    2 | state_dir: /?\n      |             ^",
	} {
		_, err := Load(name)
		if got := fmt.Sprint(err); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
