package moodletest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"

	"jumpgate/gateway"
)

var pageTitle = regexp.MustCompile(`(?isU)<title>(.*)</title>`)

// AddHost does what Moodle's form "Add a new host" and its tab "Services" do
// (mnet/peer.php and admin/mnet/peers.php (source)): it resolves the host's
// name, takes the title of its front page for its name, swaps keys, compares
// the subject of the certificate with the wwwroot, and stores the host with the
// grants and the number that p gives. It never asks for /mnet/publickey.php.
// It is for sites with MNet alone.
func (st *site) AddHost(ctx context.Context, p gateway.Peer) error {
	m, wwwroot := st.mnet, p.Wwwroot.String()
	if m.peerNamed(wwwroot) != nil {
		return fmt.Errorf("host %s already exists", wwwroot)
	}
	if _, err := net.DefaultResolver.LookupHost(ctx, p.Wwwroot.Hostname()); err != nil {
		return fmt.Errorf("could not find an address for %s: %w", p.Wwwroot.Hostname(), err)
	}
	p.Name = wwwroot
	if title := pageTitle.FindSubmatch(frontPage(ctx, m.client, wwwroot)); title != nil {
		p.Name = string(title[1])
	}
	if p.Application == "" {
		p.Application = gateway.Moodle
	}
	certificate, err := m.keyswap(ctx, wwwroot, p.Application)
	if err != nil {
		return err
	}
	if commonName, altName := subject(certificate); altName != "" && altName != wwwroot ||
		commonName != wwwroot[:min(len(wwwroot), 64)] {
		return fmt.Errorf("the certificate of %s names %q and %q", wwwroot, commonName, altName)
	}
	_, err = m.addPeer(&p, certificate)
	return err
}

// frontPage returns the page at a site's address, or nothing: only its title
// is wanted, and Moodle does without.
func frontPage(ctx context.Context, client *http.Client, url string) []byte {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil || answer.StatusCode != http.StatusOK {
		return nil
	}
	return body
}

// HostName returns what the site calls a peer, or "" if it knows none of that
// wwwroot. It is for sites with MNet alone.
func (st *site) HostName(wwwroot string) string {
	if p := st.mnet.peerNamed(wwwroot); p != nil {
		return p.Label()
	}
	return ""
}
