package idp_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/idp"
)

// answering returns enrolments at a peer that always answers the same, and
// what it was asked.
func answering(v mnet.Value, err error) (*idp.Enrolments, *[]mnet.Value) {
	asked := &[]mnet.Value{}
	return &idp.Enrolments{Call: func(_ context.Context, _ *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error) {
		*asked = append([]mnet.Value{method}, params...)
		return v, err
	}}, asked
}

func courseHost(t *testing.T) *gateway.Peer {
	return &gateway.Peer{Wwwroot: wwwroot(t, "https://sp.test"), Subscribe: []string{gateway.ServiceMnetEnrol}}
}

// recorded reads a capture: the parameters of a call behind its method, or an
// answer.
func recorded(t *testing.T, name string) mnet.Value {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("../gateway/mnet/testdata/captures", name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(name, "request") {
		method, params, err := mnet.DecodeCall(doc)
		if err != nil {
			t.Fatal(err)
		}
		return append([]mnet.Value{method}, params...)
	}
	v, err := mnet.DecodeResponse(doc)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTheRecordedCoursesAreRead(t *testing.T) {
	e, asked := answering(recorded(t, "enrol-available_courses/response.xmlrpc.xml"), nil)
	got, err := e.Courses(t.Context(), courseHost(t))
	want := []idp.Course{{ID: 2, FullName: "Deep course", ShortName: "DEEP1", Category: "Category 1", Summary: "lab course"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if diff := cmp.Diff(recorded(t, "enrol-available_courses/request.xmlrpc.xml"), mnet.Value(*asked)); diff != "" {
		t.Errorf("asked (-recorded +got):\n%s", diff)
	}
}

func TestCoursesAreReadAsPeersMaySendThem(t *testing.T) {
	course := mnet.Struct{{Name: "remoteid", Value: 7}, {Name: "fullname", Value: " Deep\n"}, {Name: "startdate", Value: 1795336536}}
	want := []idp.Course{{ID: 7, FullName: "Deep", Start: time.Unix(1795336536, 0).UTC()}}
	for name, test := range map[string]struct {
		answer mnet.Value
		want   []idp.Course
		err    string
	}{
		"numbers as numbers": {mnet.Array{course}, want, ""},
		"a map":              {mnet.Struct{{Name: "7", Value: course}}, want, ""},
		"no course":          {mnet.Array{}, []idp.Course{}, ""},
		"an empty map":       {mnet.Struct{}, []idp.Course{}, ""},
		"a date that cannot be": {mnet.Array{mnet.Struct{{Name: "remoteid", Value: "7"}, {Name: "startdate", Value: 1 << 60}}},
			[]idp.Course{{ID: 7}}, ""},
		"a course without an id": {mnet.Array{mnet.Struct{{Name: "fullname", Value: "x"}}}, nil, "without an id"},
		"a course number nought": {mnet.Array{mnet.Struct{{Name: "remoteid", Value: "0"}}}, nil, "without an id"},
		"text":                   {"x", nil, "no list"},
		"a list of texts":        {mnet.Array{"x"}, nil, "no list"},
	} {
		e, _ := answering(test.answer, nil)
		got, err := e.Courses(t.Context(), courseHost(t))
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: error %v, want %q", name, err, test.err)
		}
	}
}

func TestCourseEnrolmentsAreRead(t *testing.T) {
	ada := mnet.Struct{
		{Name: "username", Value: "ada"}, {Name: "shortname", Value: "student"}, {Name: "name", Value: ""},
		{Name: "enrol", Value: "manual"}, {Name: "timemodified", Value: "1795336536"},
	}
	e, asked := answering(mnet.Array{ada}, nil)
	got, err := e.CourseEnrolments(t.Context(), courseHost(t), 2)
	want := []idp.Enrolment{{Username: "ada", Role: "student", Method: "manual", Modified: time.Unix(1795336536, 0).UTC()}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if diff := cmp.Diff([]mnet.Value{"enrol/mnet/enrol.php/course_enrolments", 2}, *asked); diff != "" {
		t.Errorf("asked:\n%s", diff)
	}
	e, _ = answering(mnet.Array{mnet.Struct{{Name: "enrol", Value: "mnet"}}}, nil)
	if got, err := e.CourseEnrolments(t.Context(), courseHost(t), 2); err == nil || !strings.Contains(err.Error(), "without a user name") {
		t.Errorf("an enrolment of nobody: %v, %v", got, err)
	}
}

func TestALearnerIsEnrolledAndUnenrolled(t *testing.T) {
	e, asked := answering(recorded(t, "enrol-enrol_user/response.xmlrpc.xml"), nil)
	if err := e.Enrol(t.Context(), courseHost(t), ada, 2); err != nil {
		t.Error(err)
	}
	want := []mnet.Value{"enrol/mnet/enrol.php/enrol_user", mnet.Struct{
		{Name: "username", Value: "ada"}, {Name: "firstname", Value: "Ada"}, {Name: "lastname", Value: "Lovelace"}, {Name: "email", Value: "ada@home.test"},
	}, "2"}
	if diff := cmp.Diff(want, *asked); diff != "" {
		t.Errorf("asked:\n%s", diff)
	}
	if err := e.Enrol(t.Context(), courseHost(t), gateway.User{Username: "ada"}, 2); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(mnet.Value(mnet.Struct{{Name: "username", Value: "ada"}}), (*asked)[1]); diff != "" {
		t.Errorf("a learner whom the peer knows, with more than the name:\n%s", diff)
	}
	e, asked = answering(recorded(t, "enrol-unenrol_user/response.xmlrpc.xml"), nil)
	if err := e.Unenrol(t.Context(), courseHost(t), "learner2", 2); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(recorded(t, "enrol-unenrol_user/request.xmlrpc.xml"), mnet.Value(*asked)); diff != "" {
		t.Errorf("asked (-recorded +got):\n%s", diff)
	}
	for _, answer := range []mnet.Value{false, "", "0", mnet.Array{}, 2} {
		e, _ = answering(answer, nil)
		if err := e.Unenrol(t.Context(), courseHost(t), "ada", 2); err == nil || !strings.Contains(err.Error(), "not true") {
			t.Errorf("the answer %v: %v", answer, err)
		}
	}
}

func TestFaultsOfEnrolmentsComeWithWords(t *testing.T) {
	for code, words := range map[int]string{
		5011: "could not make an account", 5012: "no such course", 5013: "does not offer", 5014: "does not know the learner",
		5017: "no MNet enrolment", 5018: "not installed", 5019: "could not enrol", 5020: "could not end", 5021: "user name is empty",
		mnet.FaultNoMethod: "not published to us",
	} {
		e, _ := answering(nil, &mnet.Fault{Code: code, String: "x"})
		err := e.Enrol(t.Context(), courseHost(t), ada, 2)
		if fault, ok := errors.AsType[*mnet.Fault](err); !ok || fault.Code != code || !strings.Contains(err.Error(), words) {
			t.Errorf("fault %d: %v", code, err)
		}
	}
}

func TestAPeerWithoutTheServiceIsNotAsked(t *testing.T) {
	e, asked := answering(true, nil)
	peer := courseHost(t)
	peer.Subscribe = []string{gateway.ServiceSSOSP}
	_, courses := e.Courses(t.Context(), peer)
	_, enrolments := e.CourseEnrolments(t.Context(), peer, 2)
	for _, err := range []error{courses, enrolments, e.Enrol(t.Context(), peer, ada, 2), e.Unenrol(t.Context(), peer, "ada", 2)} {
		if !errors.Is(err, idp.ErrNotSubscribed) || len(*asked) > 0 {
			t.Errorf("%v after %v", err, *asked)
		}
	}
}
