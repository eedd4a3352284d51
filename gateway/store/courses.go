package store

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

//go:embed courses.lua
var coursesLua string

var scriptCourses = redis.NewScript(coursesLua)

const (
	// ReportLife is how long what a peer reported is kept after it last did.
	ReportLife = 400 * 24 * time.Hour

	maxCourses = 500      // of a learner at one peer
	maxReport  = 64 << 10 // bytes that these take
)

// Course is a course of a learner at a peer, as the peer describes it. The
// texts are the peer's: whoever shows them must not trust them.
type Course struct {
	ID        string `json:"id"` // of the peer's
	FullName  string `json:"fullname"`
	ShortName string `json:"shortname,omitempty"`
	IDNumber  string `json:"idnumber,omitempty"`
	Category  string `json:"category,omitempty"`
	Role      string `json:"role,omitempty"`
	StartDate int64  `json:"startdate,omitempty"` // Unix seconds; 0 for none
}

// Courses are those of one learner at one peer.
type Courses struct {
	Peer     string    `json:"peer"` // its wwwroot
	Reported time.Time `json:"reported"`
	Courses  []Course  `json:"courses"`
}

// SetCourses replaces the courses that a learner has at peer; an empty list
// leaves none. Of long texts and lists the beginning is kept. One round trip.
func (s *Site) SetCourses(ctx context.Context, username string, peer gateway.Wwwroot, courses []Course) error {
	if username == "" || len(username) > maxUsername {
		return fmt.Errorf("courses: a username of %d bytes", len(username))
	}
	record, err := s.report(peer, courses)
	if err != nil {
		return fmt.Errorf("courses: %w", err)
	}
	return fail("keep courses", scriptCourses.Run(ctx, s.r.client, []string{s.key(kindCourses, username)},
		peer.String(), record, ReportLife.Milliseconds()).Err())
}

// report returns a record of as many courses as it may hold, or nothing for
// none.
func (s *Site) report(peer gateway.Wwwroot, courses []Course) ([]byte, error) {
	if len(courses) == 0 {
		return []byte{}, nil
	}
	all := Courses{Peer: peer.String(), Reported: s.r.now().UTC(), Courses: []Course{}}
	record, err := encode(all)
	if err != nil {
		return nil, err
	}
	size := len(record)
	for _, c := range courses[:min(len(courses), maxCourses)] {
		c.cut()
		text, err := encode(c)
		if err != nil {
			return nil, err
		}
		if size += len(text) + len(","); size > maxReport {
			break
		}
		all.Courses = append(all.Courses, c)
	}
	return encode(all)
}

// encode returns v as JSON, without what makes it fit for HTML: that would
// write six bytes for one.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Courses returns what peers reported about a learner, by the peer's name.
// One round trip.
func (s *Site) Courses(ctx context.Context, username string) ([]Courses, error) {
	records, err := s.r.client.HGetAll(ctx, s.key(kindCourses, username)).Result()
	if err != nil {
		return nil, fail("read courses", err)
	}
	all := make([]Courses, 0, len(records))
	for _, record := range records {
		var c Courses
		if err := json.Unmarshal([]byte(record), &c); err != nil {
			return nil, fmt.Errorf("read courses: record: %w", err)
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Courses) int { return strings.Compare(a.Peer, b.Peer) })
	return all, nil
}

// cut shortens the texts of a course to what Moodle's own columns hold.
func (c *Course) cut() {
	c.ID = cut(c.ID, 20)
	c.FullName = cut(c.FullName, 255)
	c.ShortName = cut(c.ShortName, 255)
	c.IDNumber = cut(c.IDNumber, 100)
	c.Category = cut(c.Category, 255)
	c.Role = cut(c.Role, 255)
}

// cut returns the first n characters of s, in valid UTF-8.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}
