package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheThreatModelIsProved holds deploy/SECURITY.md to what it says: each
// threat names tests, and each test exists.
func TestTheThreatModelIsProved(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "deploy", "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	err = filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := os.ReadFile(name)
		tests.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	test := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`")
	for _, name := range test.FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(tests.String(), "\nfunc "+name[1]+"(") {
			t.Errorf("there is no %s", name[1])
		}
	}
	threats := 0
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "| **") {
			continue
		}
		threats++
		cells := strings.Split(line, " | ")
		if len(cells) != 5 || !test.MatchString(cells[3]) {
			t.Errorf("no test proves: %s", strings.TrimSpace(cells[0]))
		}
	}
	if threats < 10 {
		t.Errorf("the table has %d threats", threats)
	}
}
