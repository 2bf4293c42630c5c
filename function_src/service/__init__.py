"""The replicator as processes of one's own: workers, and a service that tells how they do."""
