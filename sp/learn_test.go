package sp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"jumpgate/gateway"
	"jumpgate/sp"
	"jumpgate/sp/mail"
)

var _ mail.Learned = (*sp.Learned)(nil)

// cameFrom is a store of homes by names.
type cameFrom struct {
	homes map[string][]string
	asked int
	err   error
}

func (c *cameFrom) LearnMailHome(_ context.Context, name string, home gateway.Wwwroot) error {
	if c.err == nil {
		c.homes[name] = append(c.homes[name], home.String())
	}
	return c.err
}

func (c *cameFrom) MailHomes(ctx context.Context, names []string) (homes []string, err error) {
	if _, limited := ctx.Deadline(); !limited {
		return nil, errors.New("a mail may wait for ever")
	}
	c.asked++
	for _, name := range names {
		homes = append(homes, c.homes[name]...)
	}
	return homes, c.err
}

// newLearned is what a forum has learned that believes three of its four peers.
func newLearned(t *testing.T) (*sp.Learned, *cameFrom) {
	var all []*gateway.Peer
	for _, w := range []string{"https://moodle.college.example", "https://lms.school.example", "https://a.free.example", "https://liar.example"} {
		all = append(all, &gateway.Peer{Wwwroot: wwwroot(t, w), Application: gateway.Moodle})
	}
	all[1].Aliases = []gateway.Wwwroot{wwwroot(t, "https://old.example.com")}
	peers, err := gateway.NewAllowlist(all...)
	if err != nil {
		t.Fatal(err)
	}
	known := &gateway.MailHomes{}
	for entry, home := range map[string]*gateway.Peer{"listed.example": all[0], "*.staff.example": nil, "local@mail.example": nil} {
		if err := known.Add(home, entry); err != nil {
			t.Fatal(err)
		}
	}
	store := &cameFrom{homes: map[string][]string{}}
	return &sp.Learned{
		Site: wwwroot(t, "https://forum.town.example"), Names: []gateway.Wwwroot{wwwroot(t, "https://forum.example.net")},
		Peers: peers, Homes: peers.Peers()[:3], Known: known, Store: store,
		Keys: func() [][32]byte { return [][32]byte{{1}, {2}} },
	}, store
}

func TestAHomeIsBelievedAboutNobodyElsesPeople(t *testing.T) {
	const college, school, free, liar = "https://moodle.college.example", "https://lms.school.example", "https://a.free.example", "https://liar.example"
	for address, test := range map[string]struct {
		from []string
		want string
	}{
		"ada@mail.example":                {[]string{college}, college},
		"Ada@MAIL.example":                {[]string{college, college}, college},
		"dan@mail.example":                {[]string{school, college}, ""},
		"eve@mail.example":                {[]string{liar}, ""},
		"fay@mail.example":                {[]string{college, liar}, college},
		"ada@college.example":             {[]string{college}, college},
		"ada@students.college.example":    {[]string{college}, college},
		"bob@college.example":             {[]string{school}, ""},
		"bob@moodle.college.example":      {[]string{school}, ""},
		"bob@physics.college.example":     {[]string{school}, ""},
		"cat@college.example":             {[]string{school, college}, college},
		"head@town.example":               {[]string{college}, ""},
		"head@forum.town.example":         {[]string{college}, ""},
		"head@example.net":                {[]string{college}, ""},
		"gus@example.com":                 {[]string{college}, ""},
		"gus@liar.example":                {[]string{college}, ""},
		"hal@free.example":                {[]string{free}, free},
		"ada@listed.example":              {[]string{school}, ""},
		"ada@x.staff.example":             {[]string{school}, ""},
		"local@mail.example":              {[]string{school}, ""},
		"LOCAL@mail.example":              {[]string{school}, ""},
		"new@mail.example":                {nil, ""},
		"no address":                      {[]string{college}, ""},
		"x@[192.0.2.1]":                   {[]string{college}, ""},
		"\"a@college.example\"@b.example": {[]string{school}, school},
	} {
		l, store := newLearned(t)
		for _, w := range test.from {
			if err := l.Learn(t.Context(), l.Peers.Exact(w), address); err != nil {
				t.Fatal(err)
			}
		}
		home, err := l.HomeOf(t.Context(), address)
		if err != nil || (test.want == "") != (home == nil) || home != nil && home.Wwwroot.String() != test.want {
			t.Errorf("%s: %v %v, want %s", address, home, err, test.want)
		}
		for name := range store.homes {
			if len(name) != 43 || strings.Contains(strings.ToLower(name), "example") {
				t.Errorf("%s is kept as %s", address, name)
			}
		}
	}
}

func TestWhatWasLearnedCountsAsTheConfigurationStandsNow(t *testing.T) {
	l, store := newLearned(t)
	college, school := l.Homes[0], l.Homes[1]
	learn := func(home *gateway.Peer) {
		t.Helper()
		if err := l.Learn(t.Context(), home, "ada@mail.example"); err != nil {
			t.Fatal(err)
		}
	}
	want := func(when string, want *gateway.Peer) {
		t.Helper()
		if home, err := l.HomeOf(t.Context(), "ada@mail.example"); home != want || err != nil {
			t.Errorf("%s: %v %v", when, home, err)
		}
	}
	learn(school)
	want("at first", school)
	for name := range store.homes {
		store.homes[name] = []string{"https://old.example.com", "https://gone.example", "https://lms.school.example"}
	}
	want("the home had another name", school)
	l.Keys = func() [][32]byte { return [][32]byte{{9}, {1}} }
	want("the key was changed", school)
	learn(college)
	want("two homes under two keys", nil)
	l.Homes = l.Homes[1:]
	want("the other is not believed any more", school)
	l.Homes = nil
	asked := store.asked
	want("none is", nil)
	if store.asked != asked {
		t.Error("Redis was asked for nothing")
	}
	l.Homes = []*gateway.Peer{college, school}
	many := make([][32]byte, 40)
	l.Keys = func() [][32]byte { return many }
	want("many keys", nil)
	store.err = errors.New("down")
	if home, err := l.HomeOf(t.Context(), "ada@mail.example"); home != nil || err == nil {
		t.Errorf("without Redis: %v %v", home, err)
	}
}

// newTaught is a forum that learns of landings.
func newTaught(t *testing.T, f *forum) (*cameFrom, *[]error) {
	store, failed := &cameFrom{homes: map[string][]string{}}, &[]error{}
	learning := sp.NewLearning()
	t.Cleanup(learning.Close)
	var mu sync.Mutex
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		*failed = append(*failed, err)
	}
	f.Learns = &sp.Learns{Learning: learning, Failed: fail, Learned: &sp.Learned{
		Site: f.Site, Peers: f.Peers, Homes: f.Peers.Peers(), Store: store, Keys: func() [][32]byte { return [][32]byte{{1}} },
	}}
	return store, failed
}

// has reports whether somebody has been learned of, and nobody else.
func (c *cameFrom) has(t *testing.T, f *forum, address string) bool {
	t.Helper()
	f.Learns.Learning.Wait()
	home, err := f.Learns.HomeOf(t.Context(), address)
	return err == nil && home == f.Peers.Peers()[0] && len(c.homes) == 1
}

func TestALandingByHeadersTeachesWhoseAnAddressIs(t *testing.T) {
	for _, test := range []struct {
		name, session string
		change        func(*headerMoodle, *forum)
		want          bool
	}{
		{"landed", "", nil, true},
		{"logged in already", adas, nil, true},
		{"asked, and not answered yet", bobs, nil, false},
		{"refused", "", func(m *headerMoodle, _ *forum) { m.login.Session = freshBobs }, false},
		{"a home that is not believed", "", func(_ *headerMoodle, f *forum) { f.Learns.Homes = nil }, false},
		{"nothing is to be learned", "", func(_ *headerMoodle, f *forum) { f.Learns = nil }, false},
		{"Redis is down", "", func(_ *headerMoodle, f *forum) {
			f.Learns.Store.(*cameFrom).err = errors.New("down")
		}, false},
		{"not recorded", "", nil, false},
	} {
		m := &headerMoodle{answer: ada(), login: begun}
		f := newHeaderForum(t, m)
		store, failed := newTaught(t, f)
		if test.change != nil {
			test.change(m, f)
		}
		a := f.lands(t, test.session)
		if test.name == "not recorded" {
			a.Err = errors.New("no trail")
		}
		f.Learn(a)
		if f.Learns == nil {
			continue
		}
		if got := store.has(t, f, "ada@home.test"); got != test.want {
			t.Errorf("%s: learned %t, %v", test.name, got, store.homes)
		}
		if (len(*failed) > 0) != (test.name == "Redis is down") {
			t.Errorf("%s: %v", test.name, *failed)
		}
	}
}

func TestALandingAtAMoodleTeachesWhoseAnAddressIs(t *testing.T) {
	for _, test := range []struct {
		name          string
		before, after string
		status        int
		change        func(*gateway.Identity)
		want          bool
	}{
		{"without a cookie", "", adas, 303, nil, true},
		{"with an anonymous session", anonymous, adas, 303, nil, true},
		{"with the same account", adas, adasNext, 303, nil, true},
		{"with another account", bobs, adas, 303, nil, false},
		{"and Moodle refuses", "", adas, 404, nil, false},
		{"and Moodle logs in a local account", "", adas, 303, func(id *gateway.Identity) { id.Remote = false }, false},
		{"and Moodle logs in a local account, after an anonymous session", anonymous, adas, 303, func(id *gateway.Identity) { id.Remote = false }, false},
		{"as an administrator who wears the account", "", adas, 303, func(id *gateway.Identity) { id.LoginAs = true }, false},
		{"and it is not known whose the session is", "", downs, 303, nil, false},
	} {
		f := newForum(t)
		store, _ := newTaught(t, f)
		who := account(7, "ada", "Ada", "Lovelace")
		who.User.Email = "ada@home.test"
		if test.change != nil {
			test.change(&who)
		}
		f.Source.(known)[adas], f.Source.(known)[adasNext] = who, who
		r := visit("GET", landing, test.before)
		f.Learn(f.Judge(r, f.Arrive(r), answered(test.status, test.after)))
		if got := store.has(t, f, "ada@home.test"); got != test.want {
			t.Errorf("%s: learned %t, %v", test.name, got, store.homes)
		}
	}
}

func TestWhatWasAskedIsLearnedWithTheAnswer(t *testing.T) {
	m := &headerMoodle{answer: ada(), login: begun}
	f := newHeaderForum(t, m)
	store, _ := newTaught(t, f)
	a := f.lands(t, bobs)
	if a.Question == nil {
		t.Fatalf("%+v", a)
	}
	for _, said := range []string{"stay", "switch"} {
		f.Once = marks{}
		decided := f.Switch(httptest.NewRecorder(), answer(a.Question, bobs, said))
		f.Learn(decided)
		if got := store.has(t, f, "ada@home.test"); got != (said == "switch") {
			t.Errorf("%s: %t, %+v", said, got, decided)
		}
	}
}

func TestLearningHoldsUpNobody(t *testing.T) {
	f := newHeaderForum(t, &headerMoodle{answer: ada(), login: begun})
	newTaught(t, f)
	block := &blocked{until: make(chan struct{}), begun: make(chan struct{}, 100)}
	f.Learns.Store = block
	a := f.lands(t, "")
	for range 100 {
		f.Learn(a)
	}
	for range 16 {
		<-block.begun
	}
	f.Learns.Learning.Close() // though nothing answers
	if n := len(block.begun); n != 0 {
		t.Errorf("%d too many at once", n)
	}
	f.Learn(a)
	if n := len(block.begun); n != 0 {
		t.Errorf("%d after the end", n)
	}
}

// blocked is a store that does not answer.
type blocked struct {
	until chan struct{}
	begun chan struct{}
}

func (b *blocked) LearnMailHome(ctx context.Context, _ string, _ gateway.Wwwroot) error {
	b.begun <- struct{}{}
	select {
	case <-ctx.Done():
		return fmt.Errorf("gave up: %w", ctx.Err())
	case <-b.until:
		return nil
	}
}

func (*blocked) MailHomes(context.Context, []string) ([]string, error) { return nil, nil }
