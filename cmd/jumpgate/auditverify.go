package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"jumpgate/gateway/audit"
)

type auditVerifyCommand struct {
	Key   string   `placeholder:"FILE" help:"Public key of the trail; audit.pub beside the first file if it is left out."`
	Head  string   `placeholder:"HASH" help:"Hash of a line, kept elsewhere, that must be in one of the files."`
	Files []string `arg:"" name:"file" help:"Files of a trail, or a directory with all of them."`
}

// Help explains more than fits a line.
func (auditVerifyCommand) Help() string {
	return "Checks every line with the one before it, every signature, and the files against each other. Exit code 1 if something is wrong; the first bad line of each file is named. " +
		"A key that lies beside the trail proves nothing against who can write there: compare its fingerprint, or give --key. " +
		"Nor can a file tell that its end was cut off after a checkpoint: give --head with a hash from jumpgate audit heads or from the log (msg=\"audit checkpoint\")."
}

var wellFormedHash = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Run prints one line for each file, and what is to be known about it.
func (c auditVerifyCommand) Run(t *terminal) error {
	if c.Head != "" && !wellFormedHash.MatchString(c.Head) {
		return &usageError{"--head: it is no SHA-256", "give 64 digits and letters from a to f"}
	}
	files, whole, err := trailFiles(c.Files)
	if err != nil {
		return err
	}
	key, err := c.key(files)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.stdout, "key  %s\n", audit.Fingerprint(key))
	r := verification{terminal: t, together: audit.Together{Whole: whole}, good: true}
	for _, name := range files {
		live := audit.Live(name) // now: it may be closed before it was read
		v, err := c.verify(name, key)
		if bad, ok := errors.AsType[*audit.BadLine](err); ok {
			r.bad("%s: %s", visibleText(name), visibleText(bad.Error()))
			r.together.Bad = append(r.together.Bad, filepath.Base(name))
			continue
		}
		if err != nil {
			return withHint(err, hintTrail)
		}
		r.together.Files, r.names, r.live = append(r.together.Files, v), append(r.names, name), append(r.live, live)
	}
	headAt := ""
	for i, v := range r.together.Files {
		if r.judge(i) && v.HeadLine > 0 {
			headAt = fmt.Sprintf("%s: line %d", visibleText(r.names[i]), v.HeadLine)
		}
	}
	switch {
	case c.Head != "" && headAt == "":
		r.bad("no line of the good files has the hash %s: something was cut off, or written anew", c.Head)
	case c.Head != "":
		fmt.Fprintf(t.stdout, "head %s\n", headAt)
	}
	if !r.good {
		return errQuiet
	}
	return nil
}

// verification is what the command has found so far.
type verification struct {
	*terminal
	together audit.Together
	names    []string // of its files
	live     []bool
	good     bool
}

func (r *verification) bad(format string, args ...any) {
	fmt.Fprintf(r.stdout, "BAD  "+format+"\n", args...)
	r.good = false
}

// judge prints what a file that is good in itself is among the others, and
// reports whether it is good there too.
func (r *verification) judge(i int) bool {
	v, name := r.together.Files[i], visibleText(r.names[i])
	remarks, err := r.together.Judge(i, r.live[i])
	if err != nil {
		r.bad("%s: %s", name, visibleText(err.Error()))
		return false
	}
	if v.Name != filepath.Base(r.names[i]) {
		remarks = append(remarks, "the gateway called it "+v.Name)
	}
	fmt.Fprintf(r.stdout, "good %s: %d lines, numbers %d to %d, %s to %s, head %s\n", name, v.Lines, v.First, v.Last,
		v.From.Format(time.RFC3339), v.To.Format(time.RFC3339), v.Head)
	for _, remark := range remarks {
		fmt.Fprintf(r.stdout, "     %s\n", visibleText(remark))
	}
	return true
}

// key returns the key of the trail that the files belong to, which is one.
func (c auditVerifyCommand) key(files []string) (ed25519.PublicKey, error) {
	dir := filepath.Dir(files[0])
	key, err := audit.ReadKey(c.Key, dir)
	if err != nil {
		return nil, withHint(err, "give the public key of the trail with --key; the gateway writes it beside the trail as audit.pub")
	}
	for _, name := range files {
		other := filepath.Dir(name)
		if c.Key != "" || other == dir {
			continue
		}
		if beside, err := audit.ReadKey("", other); err == nil && !beside.Equal(key) {
			return nil, withHint(fmt.Errorf("%s and %s are trails of two gateways: their keys differ", dir, other),
				"verify one after the other, or say with --key whose the files are")
		}
	}
	return key, nil
}

func (c auditVerifyCommand) verify(name string, key ed25519.PublicKey) (audit.Verified, error) {
	f, err := os.Open(name)
	if err != nil {
		return audit.Verified{}, err
	}
	defer f.Close()
	return audit.Verify(f, key, c.Head)
}

// trailFiles returns the files that arguments name, with those of directories.
// Those of a directory are all that there are.
func trailFiles(args []string) (files []string, whole bool, err error) {
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, false, withHint(err, "give files of the trail, or its directory")
		}
		if !info.IsDir() {
			files = append(files, arg)
			continue
		}
		found, err := audit.Files(arg)
		if err != nil {
			return nil, false, withHint(err, hintTrail)
		}
		if len(found) == 0 {
			return nil, false, withHint(fmt.Errorf("%s has no files of a trail", arg), "jumpgate config print shows the directory (audit.dir)")
		}
		files, whole = append(files, found...), true
	}
	return files, whole, nil
}
