package idp

import (
	"context"
	"fmt"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
)

// reasonNotTheirs is noted where a peer speaks about somebody who has no
// session there. It gets the answer that it would get for somebody without
// courses, picture or deeds, and so cannot find out who is who.
const reasonNotTheirs = "not-their-learner"

// reportMethods are the methods of sso_idp by which a peer speaks about
// learners that it has (protocol page, section 5.3).
func (p *Provider) reportMethods() []mnet.Method {
	return []mnet.Method{
		{Name: "auth/mnet/auth.php/update_enrolments", Service: gateway.ServiceSSOIDP, MinParams: 2, Call: p.updateEnrolments},
		{Name: "auth/mnet/auth.php/refresh_log", Service: gateway.ServiceSSOIDP, MinParams: 1, Call: p.refreshLog},
		{Name: "auth/mnet/auth.php/fetch_user_image", Service: gateway.ServiceSSOIDP, MinParams: 1, Call: p.fetchUserImage},
		{Name: "auth/mnet/auth.php/fetch_theme_info", Service: gateway.ServiceSSOIDP, Call: p.fetchThemeInfo},
	}
}

// theirs reports whether the caller may speak about a learner: who has a
// session at it, or had one not long ago.
func (p *Provider) theirs(ctx context.Context, call *mnet.Call, username string) (bool, error) {
	live, recent, err := p.Store.SessionAt(ctx, call.Peer.Wwwroot, username)
	return err == nil && (live || recent), err
}

func noteNotTheirs(call *mnet.Call, username string) {
	call.Note(reasonNotTheirs, fmt.Errorf("%.100q has no session there", username))
}

// updateEnrolments keeps the courses that a learner has at the peer, which
// sends them after each landing but the first. It answers what a Moodle does:
// false to what is no list, true to an empty one, else nothing.
func (p *Provider) updateEnrolments(ctx context.Context, call *mnet.Call) (mnet.Value, error) {
	username := call.Param(0)
	list, ok := items(call.Params[1])
	if username == "" || !ok {
		return false, nil
	}
	var answer mnet.Value
	if len(list) == 0 {
		answer = true
	}
	theirs, err := p.theirs(ctx, call, username)
	if err != nil {
		return nil, err
	}
	if !theirs {
		noteNotTheirs(call, username)
		return answer, nil
	}
	var courses []store.Course
	for _, item := range list {
		if c := course(item); c.ID != "" {
			courses = append(courses, c)
		}
	}
	return answer, p.Store.SetCourses(ctx, username, call.Peer.Wwwroot, courses)
}

func course(item mnet.Value) store.Course {
	s, _ := item.(mnet.Struct)
	return store.Course{
		ID: text(s, "id"), FullName: text(s, "fullname"), ShortName: text(s, "shortname"), IDNumber: text(s, "idnumber"),
		Category: text(s, "cat_name"), Role: text(s, "defaultrolename"), StartDate: number(s, "startdate"),
	}
}

// maxLearners is how many learners one report may be about: each costs a round
// trip. Moodle before 2.8 sends 500 records at a time.
const maxLearners = 500

// refreshLog keeps what learners did at the peer. Moodle before 2.8 sends it,
// newer ones answer it and do nothing.
func (p *Provider) refreshLog(ctx context.Context, call *mnet.Call) (mnet.Value, error) {
	list, _ := items(call.Params[0])
	known := map[string]bool{} // by username
	var records []store.LogRecord
	for _, item := range list {
		s, _ := item.(mnet.Struct)
		r := logRecord(s)
		theirs, asked := known[r.Username]
		if !asked && r.Username != "" && len(known) < maxLearners {
			var err error
			if theirs, err = p.theirs(ctx, call, r.Username); err != nil {
				return nil, err
			}
			known[r.Username] = theirs
		}
		if theirs {
			records = append(records, r)
		}
	}
	if dropped := len(list) - len(records); dropped > 0 {
		call.Note(reasonNotTheirs, fmt.Errorf("%d of %d records are about nobody who has a session there", dropped, len(list)))
	}
	if err := p.Store.AppendLog(ctx, call.Peer.Wwwroot, records); err != nil {
		return nil, err
	}
	return mnet.Struct{{Name: "code", Value: 0}, {Name: "message", Value: "All ok"}}, nil
}

func logRecord(s mnet.Struct) store.LogRecord {
	r := store.LogRecord{
		Username: text(s, "username"), Time: number(s, "time"), IP: text(s, "ip"), Course: text(s, "coursename"),
		Module: text(s, "module"), Action: text(s, "action"), URL: text(s, "url"), Info: text(s, "info"),
	}
	if r.Course == "" {
		r.Course = text(s, "course") // its id
	}
	return r
}

// fetchThemeInfo tells what a Moodle with its own theme would. Boost comes
// with every Moodle since 3.2; nothing in Moodle 4.5 asks.
func (p *Provider) fetchThemeInfo(context.Context, *mnet.Call) (mnet.Value, error) {
	return mnet.Struct{
		{Name: "themename", Value: "boost"},
		{Name: "logourl", Value: p.Site.String() + "/theme/boost/images/logo.jpg"},
	}, nil
}

// items returns the values of a PHP array, which travels as an array or as a
// struct (protocol page, section 4), and whether v is one.
func items(v mnet.Value) ([]mnet.Value, bool) {
	switch v := v.(type) {
	case mnet.Array:
		return v, true
	case mnet.Struct:
		values := make([]mnet.Value, len(v))
		for i, m := range v {
			values[i] = m.Value
		}
		return values, true
	}
	return nil, false
}

func text(s mnet.Struct, name string) string {
	v, _ := s.Get(name)
	return mnet.Text(v)
}

func number(s mnet.Struct, name string) int64 {
	v, _ := s.Get(name)
	n, _ := mnet.Int(v)
	return int64(n)
}
