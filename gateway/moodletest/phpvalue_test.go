package moodletest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRecordedSessionsSurviveParsingAndWriting(t *testing.T) {
	files, _ := filepath.Glob("testdata/sessions/*.bin")
	if len(files) < 9 {
		t.Fatalf("only %d recordings", len(files))
	}
	for _, file := range files {
		if strings.Contains(file, "gzip") {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			v, err := parsePHP(string(b))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(appendPHP(nil, v)); got != string(b) {
				t.Errorf("the outer layer changed")
			}
			vars, err := parseSession(v.(string))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(appendSession(nil, vars)); got != v {
				t.Errorf("got\n%q\nwant\n%q", got, v)
			}
		})
	}
}

func TestARecordedGzipSessionIsReadLikeAPlainOne(t *testing.T) {
	b, err := os.ReadFile("testdata/sessions/anonymous-gzip.bin")
	if err != nil {
		t.Fatal(err)
	}
	fields := []string{`s:1:"x";`, `s:1:"0";`, `s:1:"x";`, "i:0;", string(b), "i:1;", "i:2;", `s:0:"";`, `s:0:"";`}
	s, err := decodeSession("x", fields)
	if err != nil {
		t.Fatal(err)
	}
	if s.user().get("id") != int64(0) || s.sesskey() == "" || s.modified != 2 {
		t.Errorf("got %+v", s)
	}
}

func FuzzParsePHP(f *testing.F) {
	for _, s := range []string{
		"N;", "b:1;", "i:-5;", "d:0.5;", `s:1:"é";`, `a:1:{i:0;N;}`, `O:8:"stdClass":1:{s:1:"a";b:0;}`,
		"i:", "s:99999999999:\"", "a:99999999:{", strings.Repeat("a:1:{i:0;", 100),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := parsePHP(s)
		if err == nil {
			written := string(appendPHP(nil, v))
			again, err := parsePHP(written)
			if err != nil || string(appendPHP(nil, again)) != written {
				t.Errorf("%q became %q, then %v", s, written, err)
			}
		}
		_, _ = parseSession(s)
	})
}
