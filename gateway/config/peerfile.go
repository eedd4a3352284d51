package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"jumpgate/gateway"
)

// PeerPosition returns where the wwwroot of a peer is written.
func (s *Site) PeerPosition(p *gateway.Peer) Position { return s.peerPositions[p.Wwwroot] }

// PeerFile returns the file of PeersDir that holds p and nothing else, or ""
// if p is written elsewhere.
func (s *Site) PeerFile(p *gateway.Peer) string {
	file := s.PeerPosition(p).File
	if s.PeersDir == "" || filepath.Dir(file) != s.PeersDir {
		return ""
	}
	return file
}

// AddPeer writes p into a new file of PeersDir, below comments of one line
// each, and returns its name. Everybody may read it: it holds no secret. Nobody
// ever sees it half written, and if it exists the error is fs.ErrExist.
func (s *Site) AddPeer(p *gateway.Peer, comments []string) (string, error) {
	if s.PeersDir == "" {
		return "", errors.New("the site has no peers_dir")
	}
	doc, err := yaml.MarshalWithOptions(s.peerDoc(p), yaml.IndentSequence(true), yaml.UseLiteralStyleIfMultiline(true))
	if err != nil {
		return "", err
	}
	text := append(commented(comments), doc...)
	file := filepath.Join(s.PeersDir, peerFileName(p.Wwwroot))
	if _, err := s.readPeer(file, text); err != nil {
		return "", err
	}
	temp, err := tempFile(s.PeersDir, text)
	if err != nil {
		return "", err
	}
	defer os.Remove(temp)
	if err := os.Link(temp, file); err != nil {
		return "", fmt.Errorf("%s: %w", file, reasonOfLink(err))
	}
	return file, nil
}

// reasonOfLink leaves out the name of the temporary file.
func reasonOfLink(err error) error {
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}

// RepinPeer gives the peer p, which has a file of its own in PeersDir, another
// certificate. The rest of the file stays as it is, with the comments below
// its certificate.
func (s *Site) RepinPeer(p *gateway.Peer, cert *gateway.Certificate, comments []string) error {
	file := s.PeerFile(p)
	if file == "" {
		return fmt.Errorf("%s has no file of its own in peers_dir", p.Wwwroot)
	}
	old, err := readFile(file, maxFile, false)
	if err != nil {
		return err
	}
	pinned, err := yaml.MarshalWithOptions(struct {
		Certificate string `yaml:"certificate"`
		Fingerprint string `yaml:"fingerprint"`
	}{cert.PEM(), cert.Fingerprint().String()}, yaml.UseLiteralStyleIfMultiline(true))
	if err != nil {
		return err
	}
	text := slices.Concat(withoutPin(old), commented(comments), pinned)
	again, err := s.readPeer(file, text)
	if err != nil || again.Wwwroot != p.Wwwroot || again.Certificate == nil || again.Certificate.Fingerprint() != cert.Fingerprint() {
		return fmt.Errorf("%s is written in a way that is not understood well enough to change it", file)
	}
	temp, err := tempFile(s.PeersDir, text)
	if err != nil {
		return err
	}
	defer os.Remove(temp) // if it is still there
	return os.Rename(temp, file)
}

// readPeer reads the text of a peer's file as Load would, as if it were alone.
func (s *Site) readPeer(file string, text []byte) (*gateway.Peer, error) {
	r := &report{}
	alone := &Site{Wwwroot: s.Wwwroot, Aliases: s.Aliases, Issuer: s.Issuer, certificateFiles: map[gateway.Wwwroot]string{}, peerPositions: map[gateway.Wwwroot]Position{}}
	p := &peerReader{report: r, site: alone, names: map[gateway.Wwwroot]place{}, ids: map[int]place{}}
	if v, ok := parse(r, &source{name: file, dir: s.PeersDir, text: text}); ok {
		p.peer(v)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return p.peers[0], nil
}

// pinKey begins a line with one of the fields that pin, and otherKey one with
// any field or comment: in a file whose fields are not indented.
var (
	pinKey   = regexp.MustCompile(`^["']?(certificate|fingerprint)["']?\s*:`)
	otherKey = regexp.MustCompile(`^[^\s]`)
)

// withoutPin returns the text of a peer's file without the two fields.
func withoutPin(text []byte) []byte {
	var kept []byte
	inPin := false
	for line := range bytes.Lines(text) {
		if otherKey.Match(line) {
			inPin = pinKey.Match(line)
		}
		if !inPin {
			kept = append(kept, line...)
		}
	}
	if len(kept) > 0 && kept[len(kept)-1] != '\n' {
		kept = append(kept, '\n')
	}
	return kept
}

func commented(lines []string) []byte {
	var b bytes.Buffer
	for _, line := range lines {
		fmt.Fprintf(&b, "# %s\n", message("%s", []any{line}))
	}
	return b.Bytes()
}

// tempFile writes a file that Load does not read into dir, to be given its
// name when it is complete.
func tempFile(dir string, text []byte) (string, error) {
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// peerFileName returns the name of the file that AddPeer writes: the host, and
// what tells the wwwroot from others with that host. It is always the same for
// a wwwroot, so that two who add it at once cannot add it twice.
func peerFileName(w gateway.Wwwroot) string {
	host := strings.Trim(strings.ReplaceAll(w.Hostname(), ":", "_"), ".")
	if w.String() != "https://"+host || len(host) > 100 {
		sum := sha256.Sum256([]byte(w.String()))
		host = fmt.Sprintf("%.100s-%s", host, hex.EncodeToString(sum[:4]))
	}
	return host + ".yaml"
}
