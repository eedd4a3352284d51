package main

import (
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"
)

type sessionCoursesCommand struct {
	siteFlags `embed:""`
	JSON      bool   `help:"Print one JSON object a line, one for each peer."`
	Username  string `arg:"" help:"The learner's username."`
}

// Run prints the courses of a learner as the peers reported them last.
func (c sessionCoursesCommand) Run(t *terminal) error {
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	state, err := d.shared()
	if err != nil {
		return err
	}
	reports, err := state.Courses(t.ctx, c.Username)
	if err != nil {
		return withHint(err, "see that the Redis of the configuration runs, and that it lets the gateway in")
	}
	if c.JSON {
		return writeJSON(t.stdout, reports)
	}
	if len(reports) == 0 {
		_, err = fmt.Fprintf(t.stdout, "no peer has reported a course of %s\n", strconv.QuoteToGraphic(c.Username))
		return err
	}
	w := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PEER\tREPORTED\tCOURSE\tNAME\tCATEGORY\tROLE")
	for _, r := range reports {
		for _, course := range r.Courses {
			fmt.Fprintf(w, "%s\t%s", r.Peer, r.Reported.Format(time.RFC3339))
			// Quoted, since a terminal must not obey what a peer sent.
			for _, text := range []string{course.ShortName, course.FullName, course.Category, course.Role} {
				fmt.Fprint(w, "\t", strconv.QuoteToGraphic(text))
			}
			fmt.Fprintln(w)
		}
	}
	return w.Flush()
}
