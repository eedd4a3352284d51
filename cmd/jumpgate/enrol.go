package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/idp"
)

type enrolCommand struct {
	Courses enrolCoursesCommand `cmd:"" help:"List the courses that a peer offers to our learners."`
	List    enrolListCommand    `cmd:"" help:"List our learners in a course of a peer."`
	Add     enrolAddCommand     `cmd:"" help:"Enrol a learner in a course of a peer."`
	Remove  enrolRemoveCommand  `cmd:"" help:"End an enrolment that was made so."`
}

type enrolCoursesCommand struct {
	callFlags
	JSON bool   `help:"Print one JSON object a line."`
	Peer string `arg:"" help:"Wwwroot of the peer."`
}

// Run lists courses.
func (c enrolCoursesCommand) Run(t *terminal) error {
	return c.enrolments(t, c.Peer, func(ctx context.Context, d *desk, e *idp.Enrolments, peer *gateway.Peer) error {
		courses, err := e.Courses(ctx, peer)
		if err != nil {
			return err
		}
		return writeList(t.stdout, c.JSON, courses, "ID\tSHORT NAME\tNAME\tCATEGORY\tSTART", func(c idp.Course) string {
			return fmt.Sprintf("%d\t%s\t%s\t%s\t%s", c.ID, shown(c.ShortName), shown(c.FullName), shown(c.Category), day(c.Start))
		})
	})
}

type enrolListCommand struct {
	callFlags
	JSON   bool   `help:"Print one JSON object a line."`
	Peer   string `arg:"" help:"Wwwroot of the peer."`
	Course int32  `arg:"" help:"Id of the course, as enrol courses shows it."`
}

// Run lists enrolments, whoever made them.
func (c enrolListCommand) Run(t *terminal) error {
	return c.enrolments(t, c.Peer, func(ctx context.Context, d *desk, e *idp.Enrolments, peer *gateway.Peer) error {
		enrolments, err := e.CourseEnrolments(ctx, peer, int(c.Course))
		if err != nil {
			return err
		}
		return writeList(t.stdout, c.JSON, enrolments, "USER NAME\tROLE\tBY\tCHANGED", func(e idp.Enrolment) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s", shown(e.Username), shown(e.Role), shown(e.Method), day(e.Modified))
		})
	})
}

type enrolAddCommand struct {
	callFlags
	Peer      string `arg:"" help:"Wwwroot of the peer."`
	Course    int32  `arg:"" help:"Id of the course, as enrol courses shows it."`
	Username  string `arg:"" help:"The learner's user name at our site."`
	Firstname string `placeholder:"NAME" help:"First name, for a learner who was never at the peer."`
	Lastname  string `placeholder:"NAME" help:"Last name, likewise."`
	Email     string `placeholder:"ADDRESS" help:"Mail address, likewise."`
}

// Help explains more than fits a line.
func (enrolAddCommand) Help() string {
	return "A learner who was at the peer before is known there by the user name. For one who was not, the peer makes an account: " +
		"give --firstname, --lastname and --email, or it will have no name."
}

// Run enrols a learner.
func (c enrolAddCommand) Run(t *terminal) error {
	user := gateway.User{Username: c.Username, FirstName: c.Firstname, LastName: c.Lastname, Email: c.Email}
	if some, all := c.Firstname+c.Lastname+c.Email != "", c.Firstname != "" && c.Lastname != "" && c.Email != ""; some && !all {
		return &usageError{"an account needs a first name, a last name and a mail address", "give --firstname, --lastname and --email, or none of them"}
	}
	return c.enrolments(t, c.Peer, func(ctx context.Context, d *desk, e *idp.Enrolments, peer *gateway.Peer) error {
		err := e.Enrol(ctx, peer, user, int(c.Course))
		if err := d.attempted("enrol add", audit.Event{User: c.Username, Peer: peer.Wwwroot.String(), Detail: fmt.Sprintf("course %d", c.Course)}, err); err != nil {
			return err
		}
		_, err = fmt.Fprintf(t.stdout, "%s is enrolled in course %d of %s\n", shown(c.Username), c.Course, peer.Wwwroot)
		return err
	})
}

type enrolRemoveCommand struct {
	callFlags
	Peer     string `arg:"" help:"Wwwroot of the peer."`
	Course   int32  `arg:"" help:"Id of the course, as enrol courses shows it."`
	Username string `arg:"" help:"The learner's user name at our site."`
}

// Run ends an enrolment.
func (c enrolRemoveCommand) Run(t *terminal) error {
	return c.enrolments(t, c.Peer, func(ctx context.Context, d *desk, e *idp.Enrolments, peer *gateway.Peer) error {
		err := e.Unenrol(ctx, peer, c.Username, int(c.Course))
		if err := d.attempted("enrol remove", audit.Event{User: c.Username, Peer: peer.Wwwroot.String(), Detail: fmt.Sprintf("course %d", c.Course)}, err); err != nil {
			return err
		}
		_, err = fmt.Fprintf(t.stdout, "%s is no longer enrolled in course %d of %s by MNet\n", shown(c.Username), c.Course, peer.Wwwroot)
		return err
	})
}

// enrolments runs f with what asks a peer.
func (c callFlags) enrolments(t *terminal, name string, f func(context.Context, *desk, *idp.Enrolments, *gateway.Peer) error) error {
	return c.with(t, name, func(ctx context.Context, d *desk, peer *gateway.Peer) error {
		err := f(ctx, d, &idp.Enrolments{Call: d.call}, peer)
		if errors.Is(err, idp.ErrNotSubscribed) {
			return withHint(err, "add "+gateway.ServiceMnetEnrol+" to the peer's subscribe: in the configuration")
		}
		return err
	})
}

// writeList writes a table, or one JSON object a line.
func writeList[T any](w io.Writer, asJSON bool, all []T, header string, row func(T) string) error {
	if asJSON {
		for _, one := range all {
			if err := encodeJSON(w, one); err != nil {
				return err
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, header)
	for _, one := range all {
		fmt.Fprintln(table, row(one))
	}
	return table.Flush()
}

// day returns a date for a table.
func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.DateOnly)
}
