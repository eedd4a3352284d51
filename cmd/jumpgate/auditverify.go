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
	files, err := trailFiles(c.Files)
	if err != nil {
		return err
	}
	key, err := audit.ReadKey(c.Key, filepath.Dir(files[0]))
	if err != nil {
		return withHint(err, "give the public key of the trail with --key; the gateway writes it beside the trail as audit.pub")
	}
	fmt.Fprintf(t.stdout, "key  %s\n", audit.Fingerprint(key))
	good := true
	var all []audit.Verified
	var names []string
	var live []bool
	for _, name := range files {
		written := audit.Live(name) // now: it may be closed before it was read
		v, err := c.verify(name, key)
		if bad, ok := errors.AsType[*audit.BadLine](err); ok {
			fmt.Fprintf(t.stdout, "BAD  %s: %s\n", visibleText(name), visibleText(bad.Error()))
			good = false
			continue
		}
		if err != nil {
			return withHint(err, hintTrail)
		}
		all, names, live = append(all, v), append(names, name), append(live, written)
	}
	headAt := ""
	for i, v := range all {
		remarks, err := v.Together(all, live[i])
		if err != nil {
			fmt.Fprintf(t.stdout, "BAD  %s: %s\n", visibleText(names[i]), visibleText(err.Error()))
			good = false
			continue
		}
		fmt.Fprintf(t.stdout, "good %s: %d lines, numbers %d to %d, %s to %s, head %s\n", visibleText(names[i]), v.Lines, v.First, v.Last,
			v.From.Format(time.RFC3339), v.To.Format(time.RFC3339), v.Head)
		if v.Name != filepath.Base(names[i]) {
			remarks = append(remarks, "the gateway called it "+v.Name)
		}
		for _, remark := range remarks {
			fmt.Fprintf(t.stdout, "     %s\n", visibleText(remark))
		}
		if v.HeadLine > 0 {
			headAt = fmt.Sprintf("%s: line %d", visibleText(names[i]), v.HeadLine)
		}
	}
	switch {
	case c.Head != "" && headAt == "":
		fmt.Fprintf(t.stdout, "BAD  no line of the good files has the hash %s: something was cut off, or written anew\n", c.Head)
		good = false
	case c.Head != "":
		fmt.Fprintf(t.stdout, "head %s\n", headAt)
	}
	if !good {
		return errQuiet
	}
	return nil
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
func trailFiles(args []string) ([]string, error) {
	var files []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, withHint(err, "give files of the trail, or its directory")
		}
		if !info.IsDir() {
			files = append(files, arg)
			continue
		}
		found, err := audit.Files(arg)
		if err != nil {
			return nil, withHint(err, hintTrail)
		}
		if len(found) == 0 {
			return nil, withHint(fmt.Errorf("%s has no files of a trail", arg), "jumpgate config print shows the directory (audit.dir)")
		}
		files = append(files, found...)
	}
	return files, nil
}
