package mail_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
	"jumpgate/sp/mail"
)

// testRelay is a relay between a test and a nextServer.
type testRelay struct {
	*mail.Relay
	addr string

	mu     sync.Mutex
	events []mail.Event
	served chan error
}

// learned knows the homes of people by their addresses.
type learned map[string]*gateway.Peer

func (l learned) HomeOf(_ context.Context, address string) (*gateway.Peer, error) {
	if strings.HasPrefix(address, "error@") {
		return nil, fmt.Errorf("no state")
	}
	return l[address], nil
}

func newRelay(t testing.TB, n *nextServer, change func(*mail.RelayOptions)) *testRelay {
	t.Helper()
	site := forum(t)
	known := &gateway.MailHomes{}
	home := &gateway.Peer{Wwwroot: wwwroot(t, "https://home.example.org"), Application: gateway.Moodle}
	college := &gateway.Peer{Wwwroot: wwwroot(t, "https://college.example.com"), Application: gateway.Moodle}
	for entry, peer := range map[string]*gateway.Peer{"example.edu": home, "college.example": college, "gone.example": {Wwwroot: wwwroot(t, "https://gone.example"), Off: true}, "carol@staff.example": nil} {
		if err := known.Add(peer, entry); err != nil {
			t.Fatal(err)
		}
	}
	r := &testRelay{served: make(chan error, 1)}
	o := mail.RelayOptions{
		Site: site.Wwwroot, Aliases: site.Aliases,
		Homes:   &mail.Homes{Known: known, Learned: learned{"carol@mail.example": home, "carol@staff.example": home, "carol@gone.example": home}, Now: time.Now},
		Clients: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Next:    mail.Server{Address: n.addr}, Hostname: "relay.test",
		MaxSize: 20 << 20, MaxConnections: 10, Timeout: 10 * time.Second,
		Observe: func(_ context.Context, e mail.Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			e.Duration = 0
			r.events = append(r.events, e)
		},
	}
	if change != nil {
		change(&o)
	}
	r.Relay = mail.NewRelay(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	go func() { r.served <- r.Serve(l) }()
	t.Cleanup(func() { r.stop(t) })
	return r
}

// stop ends the relay, at once if that is what it takes.
func (r *testRelay) stop(t testing.TB) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	r.Shutdown(ended)
	select {
	case err := <-r.served:
		if err != nil {
			t.Error(err)
		}
		r.served <- nil
	case <-time.After(10 * time.Second):
		t.Error("the relay goes on listening")
	}
}

// outcomes are those of the events so far, with what they say of homes and links.
func (r *testRelay) outcomes() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		s := fmt.Sprintf("%s %d %s %d", e.Outcome, e.Code, e.Domain, e.Recipients)
		if e.Home != nil {
			s += fmt.Sprintf(" %s %d", e.Home.Wwwroot, e.Result.Links)
		}
		all = append(all, s+e.Result.Untouched)
	}
	return all
}

// client speaks SMTP word by word.
type client struct {
	t testing.TB
	*textproto.Conn
	raw net.Conn
}

func dial(t testing.TB, r *testRelay) *client {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return &client{t, textproto.NewConn(c), c}
}

// does says commands one after the other and expects a code after each: it
// takes pairs of them. The greeting answers to "".
func (c *client) does(commandsAndCodes ...any) (last string) {
	c.t.Helper()
	for i := 0; i < len(commandsAndCodes); i += 2 {
		command := commandsAndCodes[i].(string)
		if command != "" {
			if err := c.PrintfLine("%s", command); err != nil {
				c.t.Fatalf("%s: %v", command, err)
			}
		}
		code, text, err := c.ReadResponse(0)
		if last = fmt.Sprintf("%d %s", code, text); code != commandsAndCodes[i+1] {
			c.t.Fatalf("%q: %q (%v), not %d", command, last, err, commandsAndCodes[i+1])
		}
	}
	return last
}

const forumMail = "From: noreply@forum.example.net\r\nTo: somebody\r\nSubject: x\r\n\r\nhttps://forum.example.net/mod/forum/discuss.php?d=12#p34\r\n.a dot\r\n"

const changedMail = "From: noreply@forum.example.net\r\nTo: somebody\r\nSubject: x\r\n\r\n" +
	"https://home.example.org/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fforum.example.net&wantsurl=%2Fmod%2Fforum%2Fdiscuss.php%3Fd%3D12%23p34\r\n.a dot\r\n"

// dotted is a mail as it is sent, with the dot at its end.
func dotted(mail string) string {
	return strings.ReplaceAll("\r\n"+mail, "\r\n.", "\r\n..")[2:] + "."
}

func TestARelayChangesTheLinksOfThoseWhoseHomeIsKnown(t *testing.T) {
	n := newNext(t, &nextServer{})
	r := newRelay(t, n, nil)
	c := dial(t, r)
	c.does("", 220, "EHLO moodle.test", 250)
	for _, to := range []string{"Ada@Example.EDU", "bob@elsewhere.example", "carol@mail.example", "error@mail.example", "carol@gone.example", "carol@staff.example"} {
		said := c.does("MAIL FROM:<noreply@forum.example.net>", 250, "RCPT TO:<"+to+">", 250, "DATA", 354, dotted(forumMail), 250)
		if said != "250 2.0.0 queued as A1" {
			t.Errorf("the next server's words became %q", said)
		}
	}
	c.does("QUIT", 221)
	var got []string
	for _, m := range n.got() {
		got = append(got, m.commands[1]+"\n"+string(m.data))
	}
	want := []string{
		"RCPT TO:<Ada@Example.EDU>\n" + changedMail, "RCPT TO:<bob@elsewhere.example>\n" + forumMail, "RCPT TO:<carol@mail.example>\n" + changedMail,
		"RCPT TO:<error@mail.example>\n" + forumMail, "RCPT TO:<carol@gone.example>\n" + forumMail, "RCPT TO:<carol@staff.example>\n" + forumMail,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		"sent 250 Example.EDU 1 https://home.example.org 1", "sent 250 elsewhere.example 1", "sent 250 mail.example 1 https://home.example.org 1",
		"sent 250 mail.example 1", "sent 250 gone.example 1", "sent 250 staff.example 1",
	}, r.outcomes()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRecipientsWithDifferentHomesAreSplit(t *testing.T) {
	n := newNext(t, &nextServer{says: func(command string, nth int) string {
		if command == "RCPT" && nth == 1 {
			return "550 5.1.1 nobody"
		}
		return ""
	}})
	c := dial(t, newRelay(t, n, nil))
	// Who is refused decides nothing.
	c.does("", 220, "EHLO moodle.test", 250, "MAIL FROM:<a@forum.example.net>", 250, "RCPT TO:<nobody@elsewhere.example>", 550,
		"RCPT TO:<ada@example.edu>", 250, "RCPT TO:<bob@college.example>", 452, "RCPT TO:<carol@mail.example>", 250, "RCPT TO:<dave@elsewhere.example>", 452, "DATA", 354, dotted(forumMail), 250)
	// The others come again.
	if said := c.does("MAIL FROM:<a@forum.example.net>", 250, "RCPT TO:<dave@elsewhere.example>", 250, "RCPT TO:<bob@college.example>", 452); !strings.HasPrefix(said, "452 4.5.3 ") {
		t.Errorf("they are told %q", said)
	}
	c.does("DATA", 354, dotted(forumMail), 250, "MAIL FROM:<a@forum.example.net>", 250, "RCPT TO:<bob@college.example>", 250, "DATA", 354, dotted(forumMail), 250)
	got := n.got()
	if len(got) != 3 || string(got[0].data) != changedMail || string(got[1].data) != forumMail || !bytes.Contains(got[2].data, []byte("https://college.example.com/auth")) {
		t.Fatalf("%q", got)
	}
	if want := []string{"MAIL FROM:<a@forum.example.net> BODY=8BITMIME", "RCPT TO:<nobody@elsewhere.example>", "RCPT TO:<ada@example.edu>", "RCPT TO:<carol@mail.example>", "DATA"}; !cmp.Equal(want, got[0].commands) {
		t.Error(cmp.Diff(want, got[0].commands))
	}
}

// TestNoMailIsLostWhenTheNextServerFails tries each command of a mail with each
// way to fail. The client is told to keep the mail, or what the next server
// said, and never yes; and the next server has no mail of which the client was
// told no, but where nobody can know: after the whole of it.
func TestNoMailIsLostWhenTheNextServerFails(t *testing.T) {
	commands := []string{"", "EHLO", "MAIL", "RCPT", "DATA", "."}
	for i, command := range commands {
		for answer, want := range map[string]int{
			"hang": 451, "close": 451, "450 4.2.0 not now": 450, "550 5.7.1 never": 550, "421 4.3.2 stopping": 421, "299 what": 451, "garbage": 451, "354 go on": 451,
		} {
			if answer == "354 go on" && command == "DATA" {
				continue
			}
			t.Run(command+" "+answer, func(t *testing.T) {
				t.Parallel()
				n := newNext(t, &nextServer{says: func(c string, _ int) string {
					if c == command {
						return answer
					}
					return ""
				}})
				r := newRelay(t, n, func(o *mail.RelayOptions) { o.Timeout = 500 * time.Millisecond })
				c := dial(t, r)
				if i < 2 {
					want = 451 // whatever it is, it is not about this mail
				}
				steps := []struct {
					said string
					code int
				}{
					{"EHLO moodle.test", 250}, {"MAIL FROM:<a@forum.example.net>", 250}, {"RCPT TO:<ada@example.edu>", 250}, {"DATA", 354}, {dotted(forumMail), 250},
				}
				fails := max(i, 1) - 1
				if command == "DATA" {
					fails++ // to which the relay says yes itself
				}
				c.does("", 220)
				for _, step := range steps[:fails] {
					c.does(step.said, step.code)
				}
				c.does(steps[fails].said, want)
				got := n.got()
				if len(got) > 0 && !(command == "." && want == 451) {
					t.Errorf("the next server has the mail: %q", got)
				}
				outcome := "deferred"
				switch {
				case want/100 == 5:
					outcome = "refused"
				case command == "." && (answer == "hang" || answer == "close" || answer == "garbage" || answer == "299 what"):
					outcome = "unknown"
				}
				events := r.outcomes()
				if len(events) != 1 || !strings.HasPrefix(events[0], fmt.Sprintf("%s %d ", outcome, want)) {
					t.Errorf("%q, not %s %d", events, outcome, want)
				}
			})
		}
	}
}

func TestAMailThatEndsEarlyIsNotSent(t *testing.T) {
	n := newNext(t, &nextServer{})
	r := newRelay(t, n, nil)
	c := dial(t, r)
	c.does("", 220, "EHLO moodle.test", 250, "MAIL FROM:<a@forum.example.net>", 250, "RCPT TO:<ada@example.edu>", 250, "DATA", 354)
	c.PrintfLine("Subject: x")
	c.raw.Close()
	await(t, func() bool { return len(r.outcomes()) == 1 })
	if got := r.outcomes(); !strings.HasPrefix(got[0], "aborted 451 example.edu 1") {
		t.Errorf("%q", got)
	}
	if got := n.got(); len(got) > 0 {
		t.Errorf("the next server has %q", got)
	}
}

// await waits for what another goroutine does.
func await(t testing.TB, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

func TestAMailOfWhichTheClientDoesNotHearMayArriveTwice(t *testing.T) {
	var c *client
	n := newNext(t, &nextServer{says: func(command string, _ int) string {
		if command == "." {
			c.raw.(*net.TCPConn).SetLinger(0)
			c.raw.Close() // just before it would have heard
		}
		return ""
	}})
	r := newRelay(t, n, nil)
	c = dial(t, r)
	c.does("", 220, "EHLO moodle.test", 250, "MAIL FROM:<a@forum.example.net>", 250, "RCPT TO:<ada@example.edu>", 250, "DATA", 354)
	c.PrintfLine("%s", dotted(forumMail))
	await(t, func() bool { return len(r.outcomes()) == 2 })
	if want := []string{"sent 250 example.edu 1 https://home.example.org 1", "unconfirmed 250 example.edu 1 https://home.example.org 1"}; !cmp.Equal(want, r.outcomes()) {
		t.Error(cmp.Diff(want, r.outcomes()))
	}
	if len(n.got()) != 1 {
		t.Error("the next server does not have it")
	}
}

func TestAClientThatSaysGoodByeHasHeard(t *testing.T) {
	r := newRelay(t, newNext(t, &nextServer{}), nil)
	c := dial(t, r)
	c.does("", 220, "EHLO moodle.test", 250, "MAIL FROM:<a@forum.example.net>", 250, "RCPT TO:<ada@example.edu>", 250, "DATA", 354, dotted(forumMail), 250, "QUIT", 221)
	r.stop(t)
	if got := r.outcomes(); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func TestANextServerThatHungUpBetweenMailsIsCalledAgain(t *testing.T) {
	n := newNext(t, &nextServer{says: func(command string, nth int) string {
		if command == "MAIL" && (nth == 2 || nth == 4) {
			return map[int]string{2: "421 4.4.2 you were silent for too long", 4: "close"}[nth]
		}
		return ""
	}})
	c := dial(t, newRelay(t, n, nil))
	c.does("", 220, "EHLO moodle.test", 250)
	for range 3 {
		c.does("MAIL FROM:<a@forum.example.net>", 250, "RCPT TO:<ada@example.edu>", 250, "DATA", 354, dotted(forumMail), 250)
	}
	if got := n.got(); len(got) != 3 {
		t.Errorf("%d mails", len(got))
	}
}

func TestTheRelayOffersWhatTheNextServerOffers(t *testing.T) {
	for offers, want := range map[string]string{
		"8BITMIME SMTPUTF8 SIZE=1000 PIPELINING CHUNKING DSN": "PIPELINING 8BITMIME ENHANCEDSTATUSCODES SMTPUTF8 DSN SIZE=1000 LIMITS=RCPTMAX=1000",
		"PIPELINING": "PIPELINING ENHANCEDSTATUSCODES SIZE=20971520 LIMITS=RCPTMAX=1000",
	} {
		n := newNext(t, &nextServer{offers: strings.Split(strings.ReplaceAll(offers, "=", " "), " ")})
		if strings.Contains(offers, "SIZE") {
			n.offers = []string{"8BITMIME", "SMTPUTF8", "SIZE 1000", "PIPELINING", "CHUNKING", "DSN"}
		}
		c := dial(t, newRelay(t, n, nil))
		said := c.does("", 220, "EHLO moodle.test", 250)
		_, said, _ = strings.Cut(said, "\n")
		if got := strings.ReplaceAll(strings.ReplaceAll(said, " ", "="), "\n", " "); got != want {
			t.Errorf("of %s it offers %s", offers, got)
		}
		if !strings.Contains(offers, "8BITMIME") {
			c.does("MAIL FROM:<a@b.example> BODY=8BITMIME", 555, "MAIL FROM:<é@b.example> SMTPUTF8", 504)
		} else {
			c.does("MAIL FROM:<a@b.example> SIZE=1001", 552, "MAIL FROM:<é@b.example> SMTPUTF8 BODY=8BITMIME SIZE=100 RET=HDRS AUTH=<>", 250, "RCPT TO:<ü@b.example> NOTIFY=NEVER", 250,
				"DATA", 354, strings.Repeat("x", 1000)+"\r\n.", 552, "MAIL FROM:<>", 250, "RCPT TO:<a@b.example>", 250, "BDAT 5 LAST\r\nabc", 502, "MAIL FROM:<>", 250, "RCPT TO:<a@b.example>", 250, "DATA", 354, ".", 250)
			if got := n.got(); len(got) != 1 || got[0].commands[0] != "MAIL FROM:<> BODY=8BITMIME" {
				t.Errorf("%q", got)
			}
		}
	}
}

func TestNothingOfAnAddressBecomesACommand(t *testing.T) {
	n := newNext(t, &nextServer{})
	c := dial(t, newRelay(t, n, nil))
	c.does("", 220, "EHLO moodle.test", 250, "MAIL FROM:<a@forum.example.net>", 250)
	for to, code := range map[string]int{
		`<"a> NOTIFY=NEVER <b"@example.edu>`:           250,
		`<"a\"b\\c"@example.edu>`:                      250,
		`<@relay.example,@b.example:d@example.edu>`:    250,
		"<a\rb@example.edu>":                           553,
		"<a@example.edu\rRCPT TO:<x@evil.example>>":    501,
		"<\"a\x01\"@example.edu>":                      553,
		"<a@example.edu<x>":                            553,
		"<a@exa\"mple.edu>":                            553,
		"<\xff@example.edu>":                           553,
		"<" + strings.Repeat("a", 600) + "@b.example>": 553,
	} {
		c.does("RCPT TO:"+to, code)
	}
	c.does("DATA", 354, ".", 250)
	want := map[string]bool{
		"MAIL FROM:<a@forum.example.net> BODY=8BITMIME": true, "DATA": true,
		`RCPT TO:<"a> NOTIFY=NEVER <b"@example.edu>`: true, `RCPT TO:<"a\"b\\c"@example.edu>`: true, "RCPT TO:<d@example.edu>": true,
	}
	got := n.got()[0].commands
	if len(got) != len(want) {
		t.Errorf("%d commands", len(got))
	}
	for _, command := range got {
		if !want[command] {
			t.Errorf("the next server hears %q", command)
		}
	}
}

func TestNothingOfAMailBecomesACommand(t *testing.T) {
	for sent, want := range map[string]string{
		"a\n.\nRCPT TO:<x@evil.example>\r\n": "a\r\n.\r\nRCPT TO:<x@evil.example>\r\n",
		"a\n.\r\nQUIT\r\n":                   "a\r\n.\r\nQUIT\r\n",
		"a\r\n..\r\nQUIT\r\n":                "a\r\n.\r\nQUIT\r\n",
		"a\r.\r\nQUIT\r\n":                   "",
		"a\r\n\r.\rQUIT\r\n":                 "",
		"a\rb\r\n":                           "a\rb\r\n",
		"a\r":                                "a", // with the end of the line: CR, CR, LF
		"a\r\r\n..b\r\r":                     "a\r\n.b",
		strings.Repeat("x", 2<<20) + "\r\n":  "",
		"Subject: x\r\n\r\n" + strings.Repeat("y", 500000): "Subject: x\r\n\r\n" + strings.Repeat("y", 500000),
	} {
		for _, to := range []string{"ada@example.edu", "ada@elsewhere.example"} {
			n := newNext(t, &nextServer{})
			c := dial(t, newRelay(t, n, nil))
			code := 250
			if want == "" {
				code = 554
			}
			c.does("", 220, "EHLO moodle.test", 250, "MAIL FROM:<>", 250, "RCPT TO:<"+to+">", 250, "DATA", 354, sent+"\r\n.", code)
			got := n.got()
			if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || strings.TrimSuffix(string(got[0].data), "\r\n") != want) {
				t.Errorf("%.80q became %.200q", sent, got)
			}
		}
	}
}

func TestTheRelayIsNotForEverybody(t *testing.T) {
	n := newNext(t, &nextServer{})
	r := newRelay(t, n, func(o *mail.RelayOptions) { o.Clients = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	if said := dial(t, r).does("", 554); !strings.HasPrefix(said, "554 5.7.1 ") {
		t.Error(said)
	}
	if n.said[""] > 0 {
		t.Error("the next server was asked")
	}
}

func TestTheRelayHasAsManyConnectionsAsItMayHave(t *testing.T) {
	r := newRelay(t, newNext(t, &nextServer{}), func(o *mail.RelayOptions) { o.MaxConnections = 2 })
	first, second := dial(t, r), dial(t, r)
	first.does("", 220)
	second.does("", 220)
	dial(t, r).does("", 421)
	first.does("QUIT", 221)
	await(t, func() bool {
		c := dial(t, r)
		defer c.Close()
		code, _, _ := c.ReadResponse(0)
		return code == 220
	})
}

func TestASilentClientIsSentAway(t *testing.T) {
	r := newRelay(t, newNext(t, &nextServer{}), func(o *mail.RelayOptions) { o.Timeout = 50 * time.Millisecond })
	c := dial(t, r)
	c.does("", 220, "", 421)
	c = dial(t, r)
	c.does("", 220, "EHLO moodle.test", 250, "MAIL FROM:<>", 250, "RCPT TO:<a@b.example>", 250, "DATA", 354, "", 451)
}

func TestAMailUnderWayEndsBeforeTheRelayDoes(t *testing.T) {
	n := newNext(t, &nextServer{})
	r := newRelay(t, n, nil)
	idle, busy, never := dial(t, r), dial(t, r), dial(t, r)
	idle.does("", 220, "EHLO moodle.test", 250)
	for _, c := range []*client{busy, never} {
		c.does("", 220, "EHLO moodle.test", 250, "MAIL FROM:<>", 250, "RCPT TO:<ada@example.edu>", 250, "DATA", 354)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Shutdown(ctx)
	}()
	idle.does("", 421)
	dial(t, r).does("", 421)
	busy.does(dotted(forumMail), 250, "", 421)
	cancel()
	<-ended
	if _, _, err := never.ReadResponse(0); err == nil {
		t.Error("a mail without an end has an answer")
	}
	if got := n.got(); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func TestChangedOptionsAreForNewConnections(t *testing.T) {
	n, other := newNext(t, &nextServer{}), newNext(t, &nextServer{})
	var options mail.RelayOptions
	r := newRelay(t, n, func(o *mail.RelayOptions) { options = *o })
	before := dial(t, r)
	before.does("", 220, "EHLO moodle.test", 250)
	options.Next.Address = other.addr
	r.Use(options)
	after := dial(t, r)
	after.does("", 220, "EHLO moodle.test", 250, "MAIL FROM:<>", 250, "RCPT TO:<ada@example.edu>", 250, "DATA", 354, dotted(forumMail), 250)
	before.does("MAIL FROM:<>", 250, "RCPT TO:<ada@example.edu>", 250, "DATA", 354, dotted(forumMail), 250)
	if len(n.got()) != 1 || len(other.got()) != 1 {
		t.Errorf("%d and %d mails", len(n.got()), len(other.got()))
	}
}

func TestChangedHomesAreForTheNextMail(t *testing.T) {
	n := newNext(t, &nextServer{})
	var options mail.RelayOptions
	r := newRelay(t, n, func(o *mail.RelayOptions) { options = *o })
	c := dial(t, r)
	c.does("", 220, "EHLO moodle.test", 250, "MAIL FROM:<>", 250, "RCPT TO:<ada@example.edu>", 250)
	options.Homes = &mail.Homes{Now: time.Now} // the home is none any more
	r.Use(options)
	c.does("RCPT TO:<bob@example.edu>", 250, "DATA", 354, dotted(forumMail), 250)
	c.does("MAIL FROM:<>", 250, "RCPT TO:<ada@example.edu>", 250, "DATA", 354, dotted(forumMail), 250)
	if got := n.got(); len(got) != 2 || string(got[0].data) != changedMail || string(got[1].data) != forumMail {
		t.Errorf("%q", got)
	}
}
