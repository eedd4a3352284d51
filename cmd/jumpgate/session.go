package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"jumpgate/gateway/moodle"
)

type sessionCommand struct {
	List    sessionListCommand    `cmd:"" help:"List the sessions that learners have at peers, and visitors here."`
	End     sessionEndCommand     `cmd:"" help:"Log a user out: at all peers, and at home in the browsers that came from there. Or a visitor, here."`
	Courses sessionCoursesCommand `cmd:"" help:"Show the courses that a learner has at peers."`
	Show    sessionShowCommand    `cmd:"" help:"Say what a recorded Moodle session says about its user."`
}

type sessionShowCommand struct {
	File        string `required:"" placeholder:"FILE" help:"Raw bytes of a sessdata field, or of a session string of Moodle 4.1; - for standard input."`
	LocalhostID int64  `default:"1" placeholder:"N" help:"Moodle's mnet_localhost_id (1)."`
}

// maxSession is far above what Moodle puts into a session.
const maxSession = 16 << 20

// Run prints one JSON object.
func (c sessionShowCommand) Run(t *terminal) error {
	in := t.stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return withHint(err, "give the file with --file, or - for standard input")
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxSession+1))
	if err != nil {
		return err
	}
	if len(raw) > maxSession {
		return withHint(errors.New("the session is larger than 16 MiB"), "give the value of one session, not a dump of all")
	}
	session, err := moodle.ParseSession(raw)
	if trimmed, ok := bytes.CutSuffix(raw, []byte("\n")); ok && err != nil {
		session, err = moodle.ParseSession(trimmed) // redis-cli adds a newline
	}
	if err != nil {
		return withHint(fmt.Errorf("%s: %w", c.File, err), "record it with redis-cli --raw HGET PREFIXsession_SID sessdata")
	}
	return encodeJSON(t.stdout, session.Summary(c.LocalhostID))
}
