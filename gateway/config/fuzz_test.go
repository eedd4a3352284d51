package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzLoad looks for files that crash, for errors that point nowhere, and for
// configurations that Print does not print as they are.
func FuzzLoad(f *testing.F) {
	golden, err := txtar.ParseFile("testdata/errors.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range golden.Files {
		if !strings.Contains(file.Name, ": ") {
			f.Add(file.Data)
		}
	}
	text, err := os.ReadFile(example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(full))
	file := filepath.Join(testFiles(f), "jumpgate.yaml") // the workers' working directory must stay
	f.Fuzz(func(t *testing.T, text []byte) {
		writeFile(t, file, string(text))
		c, err := Load(file)
		if err != nil {
			var all []*Error
			if several, ok := errors.AsType[Errors](err); ok {
				all = several
			} else if one, ok := errors.AsType[*Error](err); ok {
				all = []*Error{one}
			}
			if len(all) == 0 {
				t.Fatalf("not an error of ours: %v", err)
			}
			lines := strings.Count(string(text), "\n") + strings.Count(string(text), "\r") + 1
			for _, e := range all {
				if e.File == file && (e.Line > lines || e.Message == "") {
					t.Errorf("line %d of %d: %q", e.Line, lines, e.Message)
				}
			}
			return
		}
		out := printed(t, c)
		writeFile(t, file, out)
		again, err := Load(file)
		if err != nil {
			t.Fatalf("not accepted as printed: %v\n%s", err, out)
		}
		ignore := cmp.Options{compare, cmpopts.IgnoreFields(Config{}, "Warnings"), cmpopts.IgnoreFields(Site{}, "PeersDir")}
		if diff := cmp.Diff(c, again, ignore); diff != "" {
			t.Errorf("(-before +after):\n%s\n%s", diff, out)
		}
	})
}
