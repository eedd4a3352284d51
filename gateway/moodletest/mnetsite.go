package moodletest

import (
	"cmp"
	"context"
	"crypto/sha1" // the wire's
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// mnetSite is the MNet half of a site: its keys, its peers and the rows of
// its table mnet_session.
type mnetSite struct {
	*site
	keys    keyring
	methods map[string]rpcMethod

	mu    sync.Mutex
	peers []*mnetPeer // replaced, never changed
	rows  []mnetSession
}

// keyHistory is how many old keys a Moodle keeps.
const keyHistory = 3

// mnetPeer is a row of mnet_host.
type mnetPeer struct {
	gateway.Peer
	id int64

	mu          sync.Mutex
	certificate *gateway.Certificate
}

// mnetSession is a row of mnet_session: at the home, a token that somebody
// left with; at the forum, the session that a token opened.
type mnetSession struct {
	userID    int64
	username  string
	hostID    int64
	userAgent string // SHA-1 in hexadecimal
	token     string
	confirmBy time.Time
	sid       string
}

const maxMNetSessions = 10_000

// newMNetSite numbers the peers from 3, as Moodle does, which has 1 for itself
// and 2 for all hosts. A peer that is granted nothing is granted sign-on, both
// ways.
func newMNetSite(st *site, key *mnet.Key, peers []*gateway.Peer) (*mnetSite, error) {
	if !key.Certificate().Names(st.wwwroot) {
		return nil, fmt.Errorf("the key's certificate names another site than %s", st.wwwroot)
	}
	m := &mnetSite{
		site: st, methods: map[string]rpcMethod{},
		keys: keyring{keys: []*mnet.Key{key}, history: keyHistory},
	}
	for _, p := range peers {
		if _, err := m.addPeer(p, p.Certificate); err != nil {
			return nil, err
		}
	}
	st.mux.HandleFunc("/mnet/publickey.php", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, m.keys.current().Certificate().PEM())
	})
	st.mux.HandleFunc("/mnet/xmlrpc/server.php", m.serveRPC)
	return m, nil
}

// addPeer inserts a row of mnet_host.
func (m *mnetSite) addPeer(p *gateway.Peer, certificate *gateway.Certificate) (*mnetPeer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := int64(3)
	for _, other := range m.peers {
		next = max(next, other.id+1)
	}
	row := &mnetPeer{Peer: *p, id: cmp.Or(int64(p.HostID), next), certificate: certificate}
	row.Application = cmp.Or(p.Application, gateway.Moodle)
	if p.Publish == nil && p.Subscribe == nil {
		row.Publish = []string{gateway.ServiceSSOIDP, gateway.ServiceSSOSP}
		row.Subscribe = row.Publish
	}
	for _, other := range m.peers {
		switch {
		case other.id == row.id:
			return nil, fmt.Errorf("host id %d names both %s and %s", row.id, other.Wwwroot, row.Wwwroot)
		case other.Wwwroot == row.Wwwroot:
			return nil, fmt.Errorf("%s is a peer already", row.Wwwroot)
		}
	}
	m.peers = append(slices.Clip(m.peers), row)
	return row, nil
}

// ArchiveKey makes key the site's current one and keeps the former one for
// messages of peers that have not heard of it; of those the last three are
// kept. It is for sites with MNet alone.
func (st *site) ArchiveKey(key *mnet.Key) { st.mnet.keys.archive(key) }

// hosts returns the peers there are now.
func (m *mnetSite) hosts() []*mnetPeer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.peers
}

func (m *mnetSite) peer(match func(*mnetPeer) bool) *mnetPeer {
	peers := m.hosts()
	if i := slices.IndexFunc(peers, match); i >= 0 {
		return peers[i]
	}
	return nil
}

// peerNamed compares as MNet does: byte by byte.
func (m *mnetSite) peerNamed(wwwroot string) *mnetPeer {
	return m.peer(func(p *mnetPeer) bool { return p.Wwwroot.String() == wwwroot })
}

func (m *mnetSite) peerID(id int64) *mnetPeer {
	return m.peer(func(p *mnetPeer) bool { return p.id == id })
}

// homeOf names the host of an MNet user, or is nil for a local one.
func (m *mnetSite) homeOf(mnetHostID string) *homeLink {
	id, _ := strconv.ParseInt(mnetHostID, 10, 64)
	if p := m.peerID(id); p != nil {
		return &homeLink{Name: p.Label(), URL: p.Wwwroot.String()}
	}
	return nil
}

// pinned returns the peer's certificate and fetches it on first use.
func (p *mnetPeer) pinned(ctx context.Context, client *http.Client) (*gateway.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.certificate != nil {
		return p.certificate, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Wwwroot.String()+"/mnet/publickey.php", nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	c, err := gateway.ParseCertificate(body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("public key of %s: %w", p.Wwwroot, err)
	case !c.Names(p.Wwwroot):
		return nil, fmt.Errorf("public key of %s: its certificate names another site", p.Wwwroot)
	case !p.Fingerprint.IsZero() && c.Fingerprint() != p.Fingerprint:
		return nil, fmt.Errorf("public key of %s: its fingerprint is %s", p.Wwwroot, c.Fingerprint())
	}
	p.certificate = c
	return c, nil
}

func (p *mnetPeer) pin(c *gateway.Certificate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.certificate = c
}

// saveRow inserts a row or replaces the one of the same user, host and
// browser: Moodle keeps one for each.
func (m *mnetSite) saveRow(row mnetSession) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows = slices.DeleteFunc(m.rows, func(r mnetSession) bool {
		return r.userID == row.userID && r.hostID == row.hostID && r.userAgent == row.userAgent
	})
	if len(m.rows) >= maxMNetSessions {
		m.rows = slices.Delete(m.rows, 0, 1)
	}
	m.rows = append(m.rows, row)
}

// landRow notes a session that a token has opened. Where the same user has come
// from there with such a browser before, Moodle keeps that row as it is, with
// the id of a session that this landing has just replaced: a later kill_child
// then ends nothing.
func (m *mnetSite) landRow(row mnetSession) {
	known := m.selectRows(func(r mnetSession) bool {
		return r.userID == row.userID && r.hostID == row.hostID && r.userAgent == row.userAgent
	}, false)
	if len(known) == 0 {
		m.saveRow(row)
	}
}

// selectRows returns the rows that match and, if so asked, deletes them.
func (m *mnetSite) selectRows(match func(mnetSession) bool, remove bool) []mnetSession {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []mnetSession
	for _, r := range m.rows {
		if match(r) {
			found = append(found, r)
		}
	}
	if remove {
		m.rows = slices.DeleteFunc(m.rows, match)
	}
	return found
}

// logout tells the other sites that somebody logs out here, and returns where
// to go instead of the front page: MNet users go home.
func (m *mnetSite) logout(q *request) (target string) {
	user := q.s.user()
	hostID, _ := strconv.ParseInt(user.text("mnethostid"), 10, 64)
	ua := userAgentHash(q.r)
	if home := m.peerID(hostID); home != nil {
		rows := m.selectRows(func(r mnetSession) bool {
			return r.username == user.text("username") && r.userAgent == ua && r.hostID == hostID
		}, true)
		if len(rows) > 0 { // what the home answers changes nothing here
			_, _ = m.call(q.r.Context(), home, "auth/mnet/auth.php/kill_children", user.text("username"), ua)
		}
		return home.Wwwroot.String() + "/"
	}
	m.killChildren(q.r.Context(), q.s.currentID(), user.text("username"), ua, 0)
	return ""
}

// killChildren ends the sessions that a user of this site has at other sites
// with the same browser, but not at the host that asks for it.
func (m *mnetSite) killChildren(ctx context.Context, userID int64, username, userAgent string, asking int64) string {
	rows := m.selectRows(func(r mnetSession) bool { return r.userID == userID && r.userAgent == userAgent }, true)
	if len(rows) == 0 {
		return "Could find no remote sessions\n"
	}
	var report strings.Builder
	for _, r := range rows {
		if r.hostID == asking {
			continue
		}
		report.WriteString("Deleting session\n")
		if p := m.peerID(r.hostID); p != nil {
			_, _ = m.call(ctx, p, "auth/mnet/auth.php/kill_child", username, userAgent)
		}
	}
	return report.String()
}

func userAgentHash(r *http.Request) string {
	sum := sha1.Sum([]byte(r.UserAgent()))
	return hex.EncodeToString(sum[:])
}

// endSessions destroys all sessions of a user (destroy_user_sessions).
func (st *site) endSessions(ctx context.Context, userID int64) error {
	sids, err := st.store.ofUser(ctx, userID)
	for _, sid := range sids {
		err = errors.Join(err, st.store.destroy(ctx, sid, userID))
	}
	return err
}
