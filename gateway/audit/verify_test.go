package audit

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// written returns a closed file with checkpoints in it, and its key.
func written(t *testing.T, n int) ([]byte, ed25519.PublicKey) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		trail := open(t, Options{Dir: dir})
		for i := range n {
			trail.Note(Event{
				Kind: KindDecision, Request: fmt.Sprintf("%016x", i), User: "ada", Peer: "https://sp.test", Target: `/mod/x?a=b\"ü`,
				Token: hashOf([]byte{byte(i)}), Latency: int64(i),
			})
			time.Sleep(7 * time.Second)
		}
		trail.Close()
	})
	return readOnly(t, dir)
}

// readOnly returns the only file of a trail.
func readOnly(t *testing.T, dir string) ([]byte, ed25519.PublicKey) {
	t.Helper()
	names, err := Files(dir)
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	text, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	key, err := ReadKey("", dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := check(text, key); err != nil {
		t.Fatal(err)
	}
	return text, key
}

// check verifies a file alone.
func check(text []byte, key ed25519.PublicKey) error {
	v, err := Verify(bytes.NewReader(text), key, "")
	if err != nil {
		return err
	}
	_, err = Together{Files: []Verified{v}}.Judge(0, false)
	return err
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	text, key := written(t, 120)
	flip := func(at, bit int) {
		t.Helper()
		text[at] ^= 1 << bit
		if check(text, key) == nil {
			t.Errorf("byte %d, bit %d: %q is taken", at, bit, text[max(0, at-20):min(len(text), at+20)])
		}
		text[at] ^= 1 << bit
	}
	for i := range 1000 {
		bit := rand.IntN(8)
		switch i % 4 { // of letters and digits the case, and the last bit of base64 and hexadecimal digits
		case 0:
			bit = 0
		case 1:
			bit = 5
		}
		flip(rand.IntN(len(text)), bit)
	}
	// And all of the last line, which only its signature holds, and the newlines.
	at := 0
	for line := range bytes.Lines(text) {
		if at+len(line) == len(text) {
			for i := range line {
				flip(at+i, 0)
				flip(at+i, 5)
			}
		}
		for bit := range 8 {
			flip(at+len(line)-1, bit)
		}
		at += len(line)
	}
}

func TestWhatIsNotATrailIsNamedByItsLine(t *testing.T) {
	text, key := written(t, 12)
	lines := bytes.SplitAfter(text, []byte("\n"))
	lines = lines[:len(lines)-1]
	join := func(parts ...[][]byte) []byte {
		var all [][]byte
		for _, p := range parts {
			all = append(all, p...)
		}
		return bytes.Join(all, nil)
	}
	long := []byte(strings.Repeat("x", maxLine+1) + "\n")
	for _, test := range []struct {
		name string
		text []byte
		want string
	}{
		{"nothing", nil, "line 1 (byte 0): the file is empty"},
		{"a line less", join(lines[:5], lines[6:]), "line 6 "},
		{"the first line less", join(lines[1:]), "line 1 (byte 0): it is not the first line of a file"},
		{"a line twice", join(lines[:5], lines[4:]), "line 6 "},
		{"two lines the other way round", join(lines[:5], lines[6:7], lines[5:6], lines[7:]), "line 6 "},
		{"another file behind it", join(lines, lines), "line 16 "},
		{"something behind it", join(lines, lines[5:6]), "line 16 "},
		{"an end that is cut off", join(lines[:13]), "no checkpoint has signed lines 12 to 13"},
		{"an end that is torn", text[:len(text)-1], "bytes without a newline at the end"},
		{"half a line", text[:len(text)-len(lines[14])-5], "bytes without a newline at the end"},
		{"carriage returns", bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")), "line 1 "},
		{"an empty line", join(lines[:5], [][]byte{[]byte("\n")}, lines[5:]), "line 6 "},
		{"a line that is too long", join(lines[:5], [][]byte{long}, lines[5:]), "line 6 "},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := check(test.text, key)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	t.Run("another key", func(t *testing.T) {
		other, _, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(text, other); err == nil || !strings.Contains(err.Error(), "signed with another key") {
			t.Error(err)
		}
	})
	t.Run("cut off after a checkpoint", func(t *testing.T) {
		v, err := Verify(bytes.NewReader(join(lines[:11])), key, "")
		if err != nil {
			t.Fatal(err)
		}
		remarks, err := Together{Files: []Verified{v}}.Judge(0, false)
		if err != nil || len(remarks) != 1 || !strings.Contains(remarks[0], "cut off after a checkpoint") {
			t.Error(remarks, err)
		}
	})
	t.Run("a head that was kept elsewhere", func(t *testing.T) {
		head := hashOf(bytes.TrimSuffix(lines[9], []byte("\n")))
		v, err := Verify(bytes.NewReader(text), key, head)
		if err != nil || v.HeadLine != 10 {
			t.Error(v.HeadLine, err)
		}
		if v, _ = Verify(bytes.NewReader(join(lines[:9])), key, head); v.HeadLine != 0 {
			t.Error("the head is in what was cut off")
		}
	})
}

// TestANextStartTellsOfAFileThatWasNotClosed takes a process away in the middle
// of a line.
func TestANextStartTellsOfAFileThatWasNotClosed(t *testing.T) {
	dir := t.TempDir()
	first := open(t, Options{Dir: dir, Always: true})
	for range 3 {
		if err := first.Record(t.Context(), Event{Kind: KindDecision}); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(dir, first.writer.name)
	if other := open(t, Options{Dir: dir}); len(other.writer.found) > 0 {
		t.Fatal("a file that is being written was taken for an abandoned one")
	} else {
		other.Close()
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"seq":5,"ti`)
	f.Close()
	first.writer.file.Close() // which is what a killed process leaves

	second := open(t, Options{Dir: dir})
	second.Close()
	third := open(t, Options{Dir: dir}) // and it is told once
	third.Close()

	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var told []Event
	for _, e := range events(t, dir) {
		if e.Kind == KindTorn || e.Kind == KindUnclosed {
			told = append(told, e)
		}
	}
	if len(told) != 1 || told[0].Kind != KindTorn || told[0].File != filepath.Base(name) ||
		told[0].Offset != int64(len(text)-12) || told[0].Size != 12 || told[0].Hash != hashOf([]byte(`{"seq":5,"ti`)) {
		t.Fatalf("%+v", told)
	}
	verify(t, dir)

	// What it tells holds: neither less, nor more, nor something else.
	os.Chmod(name, 0o600)
	for what, changed := range map[string][]byte{
		"without the tail":      text[:len(text)-12],
		"without the last line": text[:bytes.LastIndexByte(text[:len(text)-13], '\n')+1],
		"with another tail":     append(text[:len(text)-1:len(text)-1], 'x'),
	} {
		if err := os.WriteFile(name, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		// Either of the two files that tell of it may come first.
		if _, err := verifyAll(t, dir); err == nil || !strings.Contains(err.Error(), "it was changed since") && !strings.Contains(err.Error(), "another hash then") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := check(text, first.key.Public().(ed25519.PublicKey)); err == nil {
		t.Error("alone, a torn file is taken")
	}
}

func TestALaterFileVerifiesAloneAndNamesTheOneBefore(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		open(t, Options{Dir: dir}).Close()
	}
	all := verify(t, dir)
	if all[0].After != "" {
		all[0], all[1] = all[1], all[0]
	}
	alone := Together{Files: all[1:]}
	remarks, err := alone.Judge(0, false)
	if err != nil || len(remarks) != 1 || !strings.Contains(remarks[0], all[0].Name) || !strings.Contains(remarks[0], all[0].Head) {
		t.Error(remarks, err)
	}
	// As all that there is, it lacks the one before, unless that was deleted.
	alone.Whole = true
	if _, err := alone.Judge(0, false); err == nil || !strings.Contains(err.Error(), "is missing") {
		t.Errorf("a file that is missing: %v", err)
	}
	all[1].About = []Event{{Kind: KindPruned, File: all[0].Name}}
	if remarks, err := alone.Judge(0, false); err != nil || len(remarks) != 1 || !strings.Contains(remarks[0], "deleted because of its age") {
		t.Error(remarks, err)
	}
	all[0].Head = hashOf(nil) // the one before was exchanged
	if _, err := (Together{Files: all}).Judge(1, false); err == nil {
		t.Error("a file that does not follow the one before is taken")
	}
}

func TestAKeyIsForItsOwnerAlone(t *testing.T) {
	dir := t.TempDir()
	open(t, Options{Dir: dir}).Close()
	file := filepath.Join(dir, keyFile)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Error(err)
	}
}

func FuzzParseLine(f *testing.F) {
	e := Event{Seq: 1, Time: time.Unix(0, 0), Kind: KindDecision, Target: "ä\x01😀", Sig: []byte{1}}
	f.Add(e.appendLine(nil))
	f.Add([]byte(`{"seq":1,"time":"2026-11-22T08:35:36.000001Z"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if e, err := parseLine(line); err == nil && !bytes.Equal(e.appendLine(nil), line) {
			t.Errorf("%q is taken for %q", line, e.appendLine(nil))
		}
	})
}
