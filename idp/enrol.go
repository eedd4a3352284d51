package idp

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// Enrolments asks course hosts which courses they offer to our learners, and
// enrols learners there: the service mnet_enrol (protocol page, section 5.5).
type Enrolments struct {
	Call func(ctx context.Context, peer *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error)
}

// Course is a course that a peer offers.
type Course struct {
	ID        int       `json:"id"` // at the peer
	FullName  string    `json:"fullname"`
	ShortName string    `json:"shortname"`
	IDNumber  string    `json:"idnumber"`
	Category  string    `json:"category"`
	Role      string    `json:"role"` // that learners get
	Start     time.Time `json:"start,omitzero"`
	Summary   string    `json:"summary"` // HTML of the peer's
}

// Enrolment is a learner of ours in a course at a peer, in whatever way they
// came into it.
type Enrolment struct {
	Username string    `json:"username"`
	Role     string    `json:"role"`   // short name
	Method   string    `json:"method"` // the peer's enrolment plugin; remove ends those of mnet alone
	Modified time.Time `json:"modified,omitzero"`
}

// ErrNotSubscribed reports that we do not call a peer's methods of a service.
var ErrNotSubscribed = errors.New("the service is not among those that are subscribed to")

const enrolMethods = "enrol/mnet/enrol.php/"

// Courses returns the courses that peer offers to us.
func (e *Enrolments) Courses(ctx context.Context, peer *gateway.Peer) ([]Course, error) {
	list, err := e.list(ctx, peer, "available_courses")
	if err != nil {
		return nil, err
	}
	courses := make([]Course, 0, len(list))
	for _, s := range list {
		id, ok := memberInt(s, "remoteid")
		if !ok || id < 1 {
			return nil, fmt.Errorf("available_courses of %s: a course without an id", peer.Wwwroot)
		}
		courses = append(courses, Course{
			ID: id, FullName: memberText(s, "fullname"), ShortName: memberText(s, "shortname"), IDNumber: memberText(s, "idnumber"),
			Category: memberText(s, "cat_name"), Role: memberText(s, "defaultrolename"), Start: memberTime(s, "startdate"), Summary: memberText(s, "summary"),
		})
	}
	return courses, nil
}

// CourseEnrolments returns our learners in a course of peer.
func (e *Enrolments) CourseEnrolments(ctx context.Context, peer *gateway.Peer, courseID int) ([]Enrolment, error) {
	list, err := e.list(ctx, peer, "course_enrolments", courseID)
	if err != nil {
		return nil, err
	}
	enrolments := make([]Enrolment, 0, len(list))
	for _, s := range list {
		one := Enrolment{Username: memberText(s, "username"), Role: memberText(s, "shortname"), Method: memberText(s, "enrol"), Modified: memberTime(s, "timemodified")}
		if one.Username == "" {
			return nil, fmt.Errorf("course_enrolments of %s: an enrolment without a user name", peer.Wwwroot)
		}
		enrolments = append(enrolments, one)
	}
	return enrolments, nil
}

// Enrol enrols a learner in a course of peer, with the role that the peer
// chose. A learner whom the peer does not know gets an account there, from the
// user name, first and last name and mail address of user; the rest arrives
// with their first landing.
func (e *Enrolments) Enrol(ctx context.Context, peer *gateway.Peer, user gateway.User, courseID int) error {
	record := mnet.Struct{{Name: "username", Value: user.Username}}
	for _, m := range []mnet.Member{
		{Name: "firstname", Value: user.FirstName}, {Name: "lastname", Value: user.LastName}, {Name: "email", Value: user.Email},
	} {
		if m.Value != "" {
			record = append(record, m)
		}
	}
	return e.order(ctx, peer, "enrol_user", record, courseID)
}

// Unenrol ends the enrolment that Enrol began. Others of the same learner stay.
func (e *Enrolments) Unenrol(ctx context.Context, peer *gateway.Peer, username string, courseID int) error {
	return e.order(ctx, peer, "unenrol_user", username, courseID)
}

// order calls a method that answers true or with a fault.
func (e *Enrolments) order(ctx context.Context, peer *gateway.Peer, method string, who mnet.Value, courseID int) error {
	v, err := e.call(ctx, peer, method, who, strconv.Itoa(courseID))
	if err != nil {
		return err
	}
	if n, ok := mnet.Int(v); !ok || n != 1 {
		return fmt.Errorf("%s of %s: the answer is %.40q, not true", method, peer.Wwwroot, mnet.Text(v))
	}
	return nil
}

func (e *Enrolments) list(ctx context.Context, peer *gateway.Peer, method string, params ...mnet.Value) ([]mnet.Struct, error) {
	v, err := e.call(ctx, peer, method, params...)
	if err != nil {
		return nil, err
	}
	list, ok := records(v)
	if !ok {
		return nil, fmt.Errorf("%s of %s: the answer is no list", method, peer.Wwwroot)
	}
	return list, nil
}

func (e *Enrolments) call(ctx context.Context, peer *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error) {
	if !peer.Subscribes(gateway.ServiceMnetEnrol) {
		return nil, fmt.Errorf("%s of %s: %w: %s", method, peer.Wwwroot, ErrNotSubscribed, gateway.ServiceMnetEnrol)
	}
	v, err := e.Call(ctx, peer, enrolMethods+method, params...)
	if fault, ok := errors.AsType[*mnet.Fault](err); ok && fault.Meaning() != "" {
		return nil, fmt.Errorf("%s: %w", fault.Meaning(), err)
	}
	return v, err
}

// records returns the structs of a list, which old peers send as a map
// (source).
func records(v mnet.Value) ([]mnet.Struct, bool) {
	var values []mnet.Value
	switch v := v.(type) {
	case mnet.Array:
		values = v
	case mnet.Struct:
		for _, m := range v {
			values = append(values, m.Value)
		}
	default:
		return nil, false
	}
	list := make([]mnet.Struct, len(values))
	for i, value := range values {
		var ok bool
		if list[i], ok = value.(mnet.Struct); !ok {
			return nil, false
		}
	}
	return list, true
}

func memberText(s mnet.Struct, name string) string {
	v, _ := s.Get(name)
	return strings.TrimSpace(mnet.Text(v))
}

func memberInt(s mnet.Struct, name string) (int, bool) {
	v, _ := s.Get(name)
	return mnet.Int(v)
}

// maxDate is the end of the year 9999, in Unix seconds: JSON has no later one.
const maxDate = 253402300799

// memberTime returns Unix seconds as a time, or the zero time for none.
func memberTime(s mnet.Struct, name string) time.Time {
	n, _ := memberInt(s, name)
	if n < 1 || n > maxDate {
		return time.Time{}
	}
	return time.Unix(int64(n), 0).UTC()
}
