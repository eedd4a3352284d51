package store

import (
	"context"
	"crypto/sha1" // the wire's, protocol page, section 5.3
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

const (
	maxVisits = 64 // of one learner; the one seen longest ago makes room for the newest
	// holdLife is how long a session is held at most: longer than the home may
	// take that redeems a token.
	holdLife = 15 * time.Second
	// goneKept is how long it is remembered that a browser logs out at home:
	// longer than a landing waits for its learner to decide.
	goneKept = 10 * time.Minute
	// busyKept is how long it is remembered who was busy.
	busyKept    = time.Hour
	maxRenewed  = 100 // sessions in one script, during which Redis does nothing else
	maxSealedID = 1024
)

// Visit is a session here of a learner of another home, which a landing of ours
// began: Moodle's row of mnet_session on the side of the service provider
// (protocol page, section 7). That of an application is an AppSession.
type Visit struct {
	Home      gateway.Wwwroot
	Username  string // at home
	Account   string // what the learner is called here
	UserID    int64  // the account's; 0 at an application
	UserAgent string // hexadecimal SHA-1 of the browser's User-Agent header
	Session   string // the id of the Moodle session, sealed by the caller; empty at an application
	Hash      string // HomeHash of that id, or of the cookie
	Started   time.Time
	Expires   time.Time
}

// visitor names a learner of a home in keys and members.
func visitor(home gateway.Wwwroot, username string) string { return home.String() + " " + username }

func (s *Site) visitKey(hash string) string { return s.key(kindVisit, hash) }

// Land remembers a visit that begins, or one that goes on with a landing more,
// for life; Started and Expires are set. It is LetGo, as one that goes on. With
// awaited, it is ErrLoggedOut if CallOff was asked to end it since Await. One round
// trip.
func (s *Site) Land(ctx context.Context, v Visit, life time.Duration, awaited bool) error {
	if v.Session == "" {
		return errors.New("visit: it has no session")
	}
	return s.land(ctx, v, life, awaited, nil)
}

// land is Land. More are the arguments of the script for a session at an application.
func (s *Site) land(ctx context.Context, v Visit, life time.Duration, awaited bool, more []any) error {
	if v.Username == "" || len(v.Username) > maxUsername || len(v.Account) > maxUsername || len(v.Session) > maxSealedID ||
		v.Hash == "" || v.UserAgent == "" || strings.ContainsAny(v.Account+v.UserAgent+v.Session+v.Hash, " \n") {
		return errors.New("visit: a field is empty, too long or has a blank")
	}
	who, now := visitor(v.Home, v.Username), s.r.now()
	record := fmt.Sprintf("%s %d %s %s", v.UserAgent, v.UserID, v.Account, v.Session)
	keys := []string{s.key(kindVisits, who), s.visitKey(v.Hash), s.key(kindBusy, ""), s.key(kindHeld, v.Hash), s.goneKey(who, v.UserAgent)}
	args := []any{micros(now), micros(now.Add(life)), life.Milliseconds(), v.Hash, record, who, maxVisits, s.visitKey(""), busyKept.Milliseconds(), awaited, s.appKey("")}
	if more != nil {
		keys, args = append(keys, s.appKey(v.Hash)), append(args, more...)
	}
	began, err := scriptLand.Run(ctx, s.r.client, keys, args...).Int()
	if err == nil && began == 0 {
		return ErrLoggedOut
	}
	return fail("begin visit", err)
}

func (s *Site) goneKey(who, userAgent string) string { return s.key(kindGone, userAgent+" "+who) }

// Await notes that a learner of a home, in one browser, is about to decide whether
// they land. One round trip.
func (s *Site) Await(ctx context.Context, home gateway.Wwwroot, username, userAgent string) error {
	return fail("await a landing", s.r.client.Del(ctx, s.goneKey(visitor(home, username), userAgent)).Err())
}

// VisitOf returns the visit to which a session of Moodle's belongs, or a cookie of an
// AppSession, or false. One round trip.
func (s *Site) VisitOf(ctx context.Context, session string) (Visit, bool, error) {
	hash := HomeHash(session)
	answer, err := scriptVisit.Run(ctx, s.r.client, []string{s.visitKey(hash), s.appKey(hash)},
		hash, s.key(kindVisits, ""), micros(s.r.now())).StringSlice()
	if err != nil || len(answer) != 2 {
		return Visit{}, false, fail("read visit", err)
	}
	v, err := parseVisit(answer[0], hash, answer[1])
	return v, err == nil && s.r.now().Before(v.Expires), err
}

// Visits returns the live visits of a home's learner: those in one browser, or
// all if userAgent is empty. One round trip.
func (s *Site) Visits(ctx context.Context, home gateway.Wwwroot, username, userAgent string) ([]Visit, error) {
	all, _, err := s.visits(ctx, home, username, userAgent, false)
	return all, err
}

// CallOff returns the live visits of a home's learner in one browser, which are
// to end, but for those that are held: those are left to who holds them, which
// held reports. One round trip.
func (s *Site) CallOff(ctx context.Context, home gateway.Wwwroot, username, userAgent string) (all []Visit, held bool, err error) {
	if len(userAgent) != hex.EncodedLen(sha1.Size) { // no browser's
		return nil, false, nil
	}
	return s.visits(ctx, home, username, userAgent, true)
}

func (s *Site) visits(ctx context.Context, home gateway.Wwwroot, username, userAgent string, callOff bool) (all []Visit, held bool, err error) {
	if len(username) > maxUsername {
		return nil, false, nil
	}
	who := visitor(home, username)
	answer, err := scriptVisits.Run(ctx, s.r.client, []string{s.key(kindVisits, who), s.goneKey(who, userAgent)},
		micros(s.r.now()), userAgent, s.key(kindHeld, ""), callOff, goneKept.Milliseconds(), s.appKey("")).StringSlice()
	if err != nil || len(answer) == 0 {
		return nil, false, fail("read visits", err)
	}
	for pair := range slices.Chunk(answer[1:], 2) {
		v, err := parseVisit(who, pair[0], pair[len(pair)-1])
		if err != nil {
			return nil, false, err
		}
		all = append(all, v)
	}
	return all, answer[0] == "held", nil
}

// ListVisits returns the live visits of up to limit learners, of one home or, if that
// is zero, of all, and whether there are more. It walks over all keys of the Redis.
func (s *Site) ListVisits(ctx context.Context, home gateway.Wwwroot, limit int) (all []Visit, more bool, err error) {
	of := ""
	if !home.IsZero() {
		of = visitor(home, "")
	}
	more, err = s.each(ctx, kindVisits+of, limit, func(rest string) error {
		home, username, _ := strings.Cut(of+rest, " ")
		w, err := gateway.ParseWwwroot(home)
		if err != nil {
			return fmt.Errorf("record of a visit is malformed: %w", err)
		}
		visits, err := s.Visits(ctx, w, username, "")
		all = append(all, visits...)
		return err
	})
	return all, more, err
}

// EndVisit forgets a visit, and ends the session at an application that it is. One
// round trip.
func (s *Site) EndVisit(ctx context.Context, v Visit) error {
	who := visitor(v.Home, v.Username)
	return fail("end visit", scriptEndVisit.Run(ctx, s.r.client,
		[]string{s.key(kindVisits, who), s.visitKey(v.Hash), s.key(kindBusy, ""), s.appKey(v.Hash)}, v.Hash, who).Err())
}

// Hold keeps the session of a visit while a landing more is under way. The home
// may have it ended before it says whose the token is: for it, a new one begins with
// each landing. Until Land, or LetGo, once for each Hold, CallOff spares it, for 15
// seconds at most: once it has, to hold it again does not make that longer. One
// round trip.
func (s *Site) Hold(ctx context.Context, moodleSessionID string) error {
	hash := HomeHash(moodleSessionID)
	return fail("hold a session", scriptHold.Run(ctx, s.r.client, []string{s.key(kindHeld, hash), s.visitKey(hash)},
		holdLife.Milliseconds(), hash, s.key(kindVisits, "")).Err())
}

// LetGo ends a Hold and reports whether CallOff has spared the session meanwhile,
// and nobody else holds it. One round trip.
func (s *Site) LetGo(ctx context.Context, moodleSessionID string) (calledOff bool, err error) {
	calledOff, err = scriptLetGo.Run(ctx, s.r.client, []string{s.key(kindHeld, HomeHash(moodleSessionID))}).Bool()
	return calledOff, fail("let go of a session", err)
}

// RenewVisits notes that these sessions, of Moodle's or at an application, are in use
// now: those that are visits live on for life, counted from now, unless they are
// AppSessions, and their learners are busy. It returns those that CallOff said were to
// end, which do not live on, whoever was to end them. One round trip for each 100
// sessions.
func (s *Site) RenewVisits(ctx context.Context, sessions []string, life time.Duration) (off []Visit, err error) {
	now := s.r.now()
	for chunk := range slices.Chunk(sessions, maxRenewed) {
		keys, args := []string{s.key(kindBusy, "")}, []any{
			micros(now), micros(now.Add(life)), life.Milliseconds(), busyKept.Milliseconds(), s.key(kindVisits, ""), s.key(kindHeld, ""),
		}
		for _, id := range chunk {
			hash := HomeHash(id)
			keys, args = append(keys, s.visitKey(hash)), append(args, hash)
		}
		answer, err := scriptRenew.Run(ctx, s.r.client, keys, args...).StringSlice()
		if err != nil {
			return off, fail("renew visits", err)
		}
		for triple := range slices.Chunk(answer, 3) {
			v, err := parseVisit(triple[0], triple[1], triple[len(triple)-1])
			if err != nil {
				return off, err
			}
			off = append(off, v)
		}
	}
	return off, nil
}

// Busy returns the learners of each home who have been busy here since then. One
// round trip.
func (s *Site) Busy(ctx context.Context, since time.Time) (map[gateway.Wwwroot][]string, error) {
	members, err := s.r.client.ZRangeByScore(ctx, s.key(kindBusy, ""), &redis.ZRangeBy{Min: strconv.FormatInt(micros(since), 10), Max: "+inf"}).Result()
	if err != nil {
		return nil, fail("read who is busy", err)
	}
	busy := map[gateway.Wwwroot][]string{}
	for _, member := range members {
		home, username, _ := strings.Cut(member, " ")
		if w, err := gateway.ParseWwwroot(home); err == nil {
			busy[w] = append(busy[w], username)
		}
	}
	return busy, nil
}

// Turn reports whether it is now up to the gateway called name to do what one of
// the site's gateways does once in every period, and when that was done last. The
// gateway that has the turn keeps it as long as it asks again within lease; then
// another one gets it. One round trip.
func (s *Site) Turn(ctx context.Context, name string, lease, every time.Duration) (due bool, last time.Time, err error) {
	now := s.r.now()
	at, err := scriptTurn.Run(ctx, s.r.client, []string{s.key(kindTurn, "of"), s.key(kindTurn, "last")},
		name, lease.Milliseconds(), micros(now), every.Microseconds(), 2*every.Milliseconds()).Int64()
	if err != nil || at < 0 {
		return false, time.Time{}, fail("take turns", err)
	}
	if at == 0 {
		return true, now.Add(-every), nil
	}
	return true, time.UnixMicro(at).UTC(), nil
}

// parseVisit reads a record: started, expires (µs), browser, user id, name of
// the account and the sealed session, with blanks between, and "off" if it was to
// end. At an application the session is empty: see ours.lua.
func parseVisit(who, hash, record string) (Visit, error) {
	home, username, _ := strings.Cut(who, " ")
	w, err := gateway.ParseWwwroot(home)
	parts := strings.Split(strings.TrimSuffix(record, " off"), " ")
	if err != nil || len(parts) != 6 {
		return Visit{}, errors.New("record of a visit is malformed")
	}
	var n [3]int64
	for i, text := range []string{parts[0], parts[1], parts[3]} {
		if n[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return Visit{}, errors.New("record of a visit is malformed")
		}
	}
	return Visit{
		Home: w, Username: username, Account: parts[4], UserID: n[2], UserAgent: parts[2], Session: parts[5], Hash: hash,
		Started: time.UnixMicro(n[0]).UTC(), Expires: time.UnixMicro(n[1]).UTC(),
	}, nil
}
