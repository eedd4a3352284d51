package moodle_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway/moodle"
)

func TestARequestWithoutItsSessionKeepsAllElse(t *testing.T) {
	for _, test := range []struct {
		name string
		in   []string
		want []string
	}{
		{"no cookies", nil, nil},
		{"the session alone", []string{"Moodle_Session=a"}, nil},
		{"among others", []string{"a=1; Moodle_Session=x;  b=2"}, []string{"a=1; b=2"}},
		{"more than once", []string{"Moodle_Session=x; a=1", "Moodle_Session=y"}, []string{"a=1"}},
		{"as PHP spells it", []string{"Moodle.Session=x; a=1; Moodle Session=y"}, []string{"a=1"}},
		{"an array", []string{"Moodle_Session[0]=x; a=1"}, []string{"a=1"}},
		{"escaped, as older PHP reads it", []string{"Moodle%5fSession=x; a=1; %20Moodle_Session=y; Moodle%5FSession%5B%5D=1"}, []string{"a=1"}},
		{"without a value", []string{"Moodle_Session; a=1"}, []string{"a=1"}},
		{"similar names", []string{"Moodle_Session2=x; xMoodle_Session=1; %zz=1; moodle_session=2"}, []string{"Moodle_Session2=x; xMoodle_Session=1; %zz=1; moodle_session=2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, moodle.WithoutSession(test.in, "Moodle_Session")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnAnswerThatLeavesTheSessionAlone(t *testing.T) {
	for _, test := range []struct {
		name     string
		in, want []string
	}{
		{"nothing to remove", []string{"a=1; path=/", "MoodleSession2=x"}, []string{"a=1; path=/", "MoodleSession2=x"}},
		{"a new session", []string{"MoodleSession=x; path=/", "a=1"}, []string{"a=1"}},
		{"a deleted one, and a new one", []string{"MoodleSession=deleted; Max-Age=0", " MoodleSession =x"}, nil},
		{"no cookies", nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := http.Header{"X": {"y"}}
			if test.in != nil {
				h["Set-Cookie"] = test.in
			}
			moodle.KeepSession(h, "MoodleSession")
			if diff := cmp.Diff(test.want, h["Set-Cookie"]); diff != "" || h.Get("X") != "y" {
				t.Error(diff)
			}
		})
	}
}
