package moodletest

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// Course is a course of a forum that has an instance of enrol_mnet.
type Course struct {
	ID         int64
	FullName   string
	ShortName  string
	IDNumber   string
	Summary    string
	CategoryID int64 // 0: 1
	Category   string
	StartDate  time.Time // zero: 0
	Hidden     bool

	// For is the one host whose people may be enrolled; zero: all hosts.
	For gateway.Wwwroot
}

// enrolments are the course host's half of the service mnet_enrol
// (enrol/mnet/enrol.php (source)): whoever is enrolled is a student.
type enrolments struct {
	*mnetSite
	courses []Course

	mu       sync.Mutex
	enrolled []enrolment
}

type enrolment struct {
	userID   int64
	courseID int64
	modified time.Time
}

const studentRole = "5" // Moodle's number for it

// serve adds the methods of mnet_enrol.
func (e *enrolments) serve() {
	const p = "enrol/mnet/enrol.php/"
	e.methods[p+"available_courses"] = e.availableCourses
	e.methods[p+"course_enrolments"] = e.courseEnrolments
	e.methods[p+"enrol_user"] = e.enrolUser
	e.methods[p+"unenrol_user"] = e.unenrolUser
	e.methods[p+"user_enrolments"] = func(context.Context, *mnetPeer, []mnet.Value) (mnet.Value, error) {
		return mnet.Array{}, nil // never implemented
	}
}

func (e *enrolments) available(caller *mnetPeer, c *Course) bool {
	return !c.Hidden && (c.For.IsZero() || c.For == caller.Wwwroot)
}

func (e *enrolments) availableCourses(_ context.Context, caller *mnetPeer, _ []mnet.Value) (mnet.Value, error) {
	list := mnet.Array{}
	for i := range e.courses {
		c := &e.courses[i]
		if !e.available(caller, c) {
			continue
		}
		category, start := max(c.CategoryID, 1), int64(0)
		if !c.StartDate.IsZero() {
			start = c.StartDate.Unix()
		}
		list = append(list, mnet.Struct{
			{Name: "remoteid", Value: strconv.FormatInt(c.ID, 10)},
			{Name: "fullname", Value: c.FullName}, {Name: "shortname", Value: c.ShortName},
			{Name: "idnumber", Value: c.IDNumber},
			{Name: "summary", Value: c.Summary}, {Name: "summaryformat", Value: "0"},
			{Name: "sortorder", Value: strconv.FormatInt(10_000*category+int64(i)+1, 10)},
			{Name: "startdate", Value: strconv.FormatInt(start, 10)},
			{Name: "cat_id", Value: strconv.FormatInt(category, 10)}, {Name: "cat_name", Value: c.Category},
			{Name: "cat_description", Value: ""}, {Name: "cat_descriptionformat", Value: "1"},
			{Name: "cost", Value: nil}, {Name: "currency", Value: nil},
			{Name: "defaultroleid", Value: studentRole}, {Name: "defaultrolename", Value: ""},
		})
	}
	return list, nil
}

// course returns the course that a parameter names, if the caller may enrol
// people in it.
func (e *enrolments) course(caller *mnetPeer, param mnet.Value) (*Course, error) {
	id, _ := mnet.Int(param)
	for i := range e.courses {
		switch c := &e.courses[i]; {
		case c.ID != int64(id):
		case !e.available(caller, c):
			return nil, &mnet.Fault{Code: 5013, String: "enrol_mnet/courseunavailable"}
		default:
			return c, nil
		}
	}
	return nil, &mnet.Fault{Code: 5012, String: "enrol_mnet/coursenotfound"}
}

// enrolUser makes an account for whom it does not know, as stock Moodle does,
// before it looks at the course.
func (e *enrolments) enrolUser(_ context.Context, caller *mnetPeer, params []mnet.Value) (mnet.Value, error) {
	if len(params) < 2 {
		return nil, errMissingParameters
	}
	remote, _ := params[0].(mnet.Struct)
	profile := profileOf(remote, caller.id)
	if profile.Username == "" {
		return nil, &mnet.Fault{Code: 5021, String: "enrol_mnet/emptyusername"}
	}
	user, ok := e.users.byName(strings.ToLower(profile.Username), caller.id)
	if !ok {
		var err error
		if user, err = e.users.add(User{User: profile}); err != nil {
			return nil, &mnet.Fault{Code: 5011, String: "enrol_mnet/couldnotcreateuser"}
		}
	}
	course, err := e.course(caller, params[1])
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.enrolled {
		if e.enrolled[i].userID == user.ID && e.enrolled[i].courseID == course.ID {
			return true, nil
		}
	}
	e.enrolled = append(e.enrolled, enrolment{user.ID, course.ID, e.now()})
	return true, nil
}

func (e *enrolments) unenrolUser(_ context.Context, caller *mnetPeer, params []mnet.Value) (mnet.Value, error) {
	if len(params) < 2 {
		return nil, errMissingParameters
	}
	user, ok := e.users.byName(strings.ToLower(mnet.Text(params[0])), caller.id)
	if !ok {
		return nil, &mnet.Fault{Code: 5014, String: "enrol_mnet/usernotfound"}
	}
	course, err := e.course(caller, params[1])
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enrolled = slices.DeleteFunc(e.enrolled, func(r enrolment) bool { return r.userID == user.ID && r.courseID == course.ID })
	return true, nil
}

// courseEnrolments lists the caller's people in a course, even in one that it
// may enrol nobody in.
func (e *enrolments) courseEnrolments(_ context.Context, caller *mnetPeer, params []mnet.Value) (mnet.Value, error) {
	if len(params) < 1 {
		return nil, errMissingParameters
	}
	courseID, _ := mnet.Int(params[0])
	list := mnet.Array{}
	if len(params) > 1 && !asksForStudents(params[1]) {
		return list, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.enrolled {
		user, ok := e.users.byID(r.userID)
		if !ok || r.courseID != int64(courseID) || user.MnetHostID != caller.id || user.Deleted {
			continue
		}
		list = append(list, mnet.Struct{
			{Name: "username", Value: user.Username}, {Name: "shortname", Value: "student"}, {Name: "name", Value: ""},
			{Name: "enrol", Value: "mnet"}, {Name: "timemodified", Value: unixText(r.modified)},
		})
	}
	return list, nil
}

// asksForStudents reads a list of roles, which is an array or has commas.
func asksForStudents(roles mnet.Value) bool {
	list, ok := roles.(mnet.Array)
	if !ok {
		for _, name := range strings.Split(mnet.Text(roles), ",") {
			list = append(list, name)
		}
	}
	return slices.ContainsFunc(list, func(v mnet.Value) bool { return strings.TrimSpace(mnet.Text(v)) == "student" })
}

// Enrolled returns the usernames of those whom a peer has enrolled in a course.
func (f *Forum) Enrolled(wwwroot string, courseID int64) []string {
	p := f.mnet.peerNamed(wwwroot)
	if p == nil {
		return nil
	}
	f.enrolments.mu.Lock()
	defer f.enrolments.mu.Unlock()
	var names []string
	for _, r := range f.enrolments.enrolled {
		if user, ok := f.users.byID(r.userID); ok && r.courseID == courseID && user.MnetHostID == p.id {
			names = append(names, user.Username)
		}
	}
	return names
}
