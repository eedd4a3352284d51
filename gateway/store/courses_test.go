package store

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestCoursesAreThoseOfTheLastReport(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		set := func(username string, w string, courses ...Course) {
			t.Helper()
			if err := scriptCourses.Load(t.Context(), f.r.client).Err(); err != nil {
				t.Fatal(err)
			}
			f.wantTrips(t, 1, func() {
				if err := f.SetCourses(t.Context(), username, mustWwwroot(w), courses); err != nil {
					t.Fatal(err)
				}
			})
		}
		want := func(username string, want ...Courses) {
			t.Helper()
			got, err := f.again().Courses(t.Context(), username)
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				got[i].Reported = time.Time{}
			}
			if diff := cmp.Diff(append([]Courses{}, want...), got); diff != "" {
				t.Errorf("courses of %s (-want +got):\n%s", username, diff)
			}
		}
		deep := Course{ID: "2", FullName: "Deep ünïcode", ShortName: "DEEP1", IDNumber: "x", Category: "Category 1", Role: "Student", StartDate: 1795336536}
		want("ada")
		set("ada", peer.String(), deep, Course{ID: "3", FullName: "Second"})
		set("ada", otherPeer.String(), Course{ID: "2", FullName: "Elsewhere"})
		set("bob", peer.String(), Course{ID: "9", FullName: "Bob's"})
		set("ada", peer.String(), deep)
		want("ada", Courses{Peer: peer.String(), Courses: []Course{deep}},
			Courses{Peer: otherPeer.String(), Courses: []Course{{ID: "2", FullName: "Elsewhere"}}})
		set("ada", peer.String())
		want("ada", Courses{Peer: otherPeer.String(), Courses: []Course{{ID: "2", FullName: "Elsewhere"}}})
		set("ada", otherPeer.String())
		want("ada")
		want("bob", Courses{Peer: peer.String(), Courses: []Course{{ID: "9", FullName: "Bob's"}}})
		if keys := f.keys(t); len(keys) != 1 {
			t.Errorf("left are %q", keys)
		}
	})
}

func TestCoursesAreKeptFor400DaysAfterAReport(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		for range 2 {
			if err := f.SetCourses(t.Context(), "ada", peer, []Course{{ID: "2"}}); err != nil {
				t.Fatal(err)
			}
			key := f.key(kindCourses, "ada")
			if ttl := f.r.client.PTTL(t.Context(), key).Val(); ttl > ReportLife || ttl < ReportLife-time.Minute {
				t.Errorf("kept for %s", ttl)
			}
			f.r.client.PExpire(t.Context(), key, time.Hour)
		}
		got, err := f.Courses(t.Context(), "ada")
		if err != nil || len(got) != 1 || f.clock.now().Sub(got[0].Reported).Abs() > time.Minute || got[0].Reported.Location() != time.UTC {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestOfAHugeReportTheBeginningIsKept(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		long := strings.Repeat("\xff…", 1000)
		courses := make([]Course, 600)
		for i := range courses {
			courses[i] = Course{ID: fmt.Sprint(i), FullName: long, ShortName: long, IDNumber: long, Category: long, Role: long}
		}
		if err := f.SetCourses(t.Context(), "ada", peer, courses); err != nil {
			t.Fatal(err)
		}
		got, err := f.Courses(t.Context(), "ada")
		if err != nil || len(got) != 1 || len(got[0].Courses) < 10 {
			t.Fatalf("%+v, %v", got, err)
		}
		n := len(got[0].Courses)
		last := got[0].Courses[n-1]
		if last.ID != fmt.Sprint(n-1) || last.FullName != strings.Repeat("…", 255) || utf8.RuneCountInString(last.IDNumber) != 100 {
			t.Errorf("last is %+v", last)
		}
		if courses[0].FullName != long {
			t.Error("the caller's list was changed")
		}
	})
}

func TestAReportTakesNoMoreThanItsPart(t *testing.T) {
	for name, test := range map[string]struct {
		fullName string
		kept     int
	}{
		"short names":           {"Deep <b>", maxCourses},
		"long names":            {strings.Repeat("x", 255), 220},
		"what HTML would write": {strings.Repeat("<", 255), 220},
		"what JSON writes":      {strings.Repeat("\x01", 255), 41},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Options{Addr: Embedded})
			courses := make([]Course, 600)
			for i := range courses {
				courses[i] = Course{ID: fmt.Sprint(1000 + i), FullName: test.fullName, StartDate: 1}
			}
			if err := f.SetCourses(t.Context(), "ada", peer, courses); err != nil {
				t.Fatal(err)
			}
			record := f.r.client.HGet(t.Context(), f.key(kindCourses, "ada"), peer.String()).Val()
			got, err := f.Courses(t.Context(), "ada")
			if err != nil || len(record) > 64<<10 || len(got) != 1 || len(got[0].Courses) != test.kept {
				t.Fatalf("%d courses in %d bytes, %v", len(got[0].Courses), len(record), err)
			}
			if diff := cmp.Diff(courses[:test.kept], got[0].Courses); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAUsernameThatCannotBeHasNoCourses(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	for _, name := range []string{"", strings.Repeat("x", maxUsername+1)} {
		if err := f.SetCourses(t.Context(), name, peer, []Course{{ID: "2"}}); err == nil {
			t.Errorf("a username of %d bytes has courses", len(name))
		}
	}
	if keys := f.keys(t); len(keys) != 0 {
		t.Errorf("left are %q", keys)
	}
}
